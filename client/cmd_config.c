/* agentctl config check: the daemon owns the parser, so it is asked, without being started. */
#include "client/client.h"
#include "client/say.h"
#include "client/start.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/base/places.h"
#include "daemon/base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_BYTES_MAX 65536

static _Noreturn void become_agentd(const char *agentd, const char *config, int words)
{
    const char *argv[] = {agentd, "--check-config", config ? "--config" : NULL, config, NULL};
    start_reset_signals();
    if (!config)
        unsetenv("AGENTD_CONFIG"); /* named is what the caller names */
    dup2(words, STDOUT_FILENO);
    dup2(words, STDERR_FILENO);
    execv(agentd, (char *const *)(uintptr_t)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", agentd, strerror(errno));
    _exit(127);
}

static void read_words(int fd, struct buf *words)
{
    ssize_t n;
    while (words->n < WORDS_BYTES_MAX && (n = read(fd, buf_reserve(words, 4096), 4096)) != 0) {
        if (n < 0 && errno != EINTR)
            return;
        words->n += n > 0 ? (size_t)n : 0;
    }
}

bool client_check_config(const char *agentd, const char *config, struct buf *words)
{
    int fd[2], status = -1;
    if (pipe2(fd, O_CLOEXEC) < 0)
        return false;
    signal(SIGCHLD, SIG_DFL);
    pid_t pid = fork();
    if (pid == 0)
        become_agentd(agentd, config, fd[1]);
    close(fd[1]);
    read_words(fd[0], words);
    close(fd[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    while (words->n > 0 && words->p[words->n - 1] == '\n')
        words->n--;
    buf_putc(words, 0);
    words->n--;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* There is no RPC for this; the document has the shape that one would have. */
static void say_document(bool ok, const char *path, struct str words)
{
    CLEANUP(buf_free) struct buf b = {0}, valid = {0};
    utf8_put_valid(&valid, words, false);
    buf_printf(&b, "{\"ok\":%s,\"config\":", ok ? "true" : "false");
    if (path)
        json_put_string(&b, str_of(path));
    else
        buf_puts(&b, "null");
    buf_puts(&b, ",\"error\":");
    if (ok)
        buf_puts(&b, "null");
    else
        json_put_string(&b, buf_view(&valid));
    buf_putc(&b, '}');
    say_json(buf_view(&b));
}

int cmd_config_check(struct client *c)
{
    CLEANUP(buf_free) struct buf agentd = {0}, path = {0}, error = {0}, words = {0};
    bool named;
    if (places_config(args_option(&c->args, "--config"), &path, &named, &error) < 0 || start_find("agentd", &agentd, &error) < 0) {
        say_error(buf_cstr(&error), NULL);
        return EXIT_FAILED;
    }
    bool ok = client_check_config(buf_cstr(&agentd), named ? buf_cstr(&path) : NULL, &words);
    bool there = access(buf_cstr(&path), F_OK) == 0;
    if (c->json)
        say_document(ok, there || named ? buf_cstr(&path) : NULL, buf_view(&words));
    else if (!ok)
        say_error(buf_cstr(&words), NULL);
    else
        say_talk(buf_cstr(&words));
    return ok ? EXIT_DONE : EXIT_FAILED;
}
