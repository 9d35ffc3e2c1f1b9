#include "parts.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENV_PREFIX "env:"
#define FILE_PREFIX "file:"

static const char *after(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static bool env_name(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    size_t n = strspn(name, letters);
    return n > 0 && n <= 128 && name[n] == 0 && !(name[0] >= '0' && name[0] <= '9');
}

int config_key_check(const char *text, struct buf *error)
{
    const char *name = after(text, ENV_PREFIX), *path = after(text, FILE_PREFIX);
    if (!name && !path) {
        buf_puts(error,
                 "a key is named, never written here: keep it in an environment variable and write env:NAME, "
                 "or in a "
                 "file of its own (mode 0600) and write file:/absolute/path; what stands here now should be "
                 "considered disclosed if others can read this file");
        return -1;
    }
    if (name && !env_name(name)) {
        buf_puts(error, "env: takes the name of an environment variable (letters, digits and _), such as "
                        "env:OPENAI_API_KEY; "
                        "not the key itself");
        return -1;
    }
    if (path && path[0] != '/' && strncmp(path, "~/", 2) != 0) {
        buf_puts(error, "file: takes an absolute path, or one that begins with ~/, such as "
                        "file:~/.config/agentd/openai.key; "
                        "not the key itself");
        return -1;
    }
    return 0;
}

/* `~/` is the home folder. 0 and the path, or -1 where HOME is not set. */
static int key_path(const char *path, struct buf *ret)
{
    if (path[0] == '~') {
        const char *home = getenv("HOME");
        if (!home || home[0] != '/')
            return -1;
        buf_puts(ret, home);
        path++;
    }
    buf_puts(ret, path);
    return 0;
}

void config_key_warn(const struct config_provider *p)
{
    const char *path = p->key ? after(p->key, FILE_PREFIX) : NULL;
    CLEANUP(buf_free) struct buf full = {0};
    struct stat st;
    if (!path || key_path(path, &full) < 0 || stat(buf_cstr(&full), &st) < 0)
        return;
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        log_warn("the key file %s (provider %s) is open to other users; run: chmod 600 %s", buf_cstr(&full),
                 p->name, buf_cstr(&full));
}

/* A key goes into an HTTP header, so nothing but visible ASCII may be in it; it is never quoted in an error.
 */
static const char *key_fault(const char *key, size_t n)
{
    if (n == 0)
        return "is empty";
    for (size_t i = 0; i < n; i++) {
        if (key[i] <= 0x20 || key[i] >= 0x7f)
            return "holds blanks or characters that no key has; it must hold the key alone";
    }
    return NULL;
}

static int key_from_env(const char *provider, const char *name, struct buf *ret, struct buf *error)
{
    const char *value = getenv(name);
    const char *fault = value ? key_fault(value, strlen(value)) : "is not set";
    if (fault) {
        buf_printf(error,
                   "the variable %s, which should hold the key of provider %s, %s; set it where the daemon "
                   "is started",
                   name, provider, fault);
        return -1;
    }
    buf_puts(ret, value);
    return 0;
}

/* Reads into room that is reserved at once, so that no copy of a key is left behind in freed memory. */
static const char *read_key(int fd, struct buf *ret)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return "is not a plain file";
    char *to = buf_reserve(ret, CONFIG_KEY_BYTES_MAX);
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n < CONFIG_KEY_BYTES_MAX; n += (size_t)got) {
        got = read(fd, to + n, CONFIG_KEY_BYTES_MAX - n);
        if (got < 0)
            return strerror(errno);
    }
    if (n == CONFIG_KEY_BYTES_MAX)
        return "is too large for a key";
    while (n > 0 && (to[n - 1] == '\n' || to[n - 1] == '\r'))
        n--;
    const char *fault = key_fault(to, n);
    if (!fault) {
        ret->n += n;
        to[n] = 0;
    }
    return fault;
}

static int key_from_file(const char *provider, const char *path, struct buf *ret, struct buf *error)
{
    CLEANUP(buf_free) struct buf full = {0};
    if (key_path(path, &full) < 0) {
        buf_printf(error, "the key file %s of provider %s needs HOME to be set; write its absolute path",
                   path, provider);
        return -1;
    }
    int fd = open(buf_cstr(&full), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const char *fault = fd < 0 ? strerror(errno) : read_key(fd, ret);
    if (fd >= 0)
        close(fd);
    if (!fault)
        return 0;
    if (ret->p)
        explicit_bzero(ret->p + ret->n, ret->cap - ret->n);
    buf_printf(error, "the key file %s of provider %s cannot be used: %s; write the key alone into it",
               buf_cstr(&full), provider, fault);
    return -1;
}

int config_key(const struct config_provider *p, struct buf *ret, struct buf *error)
{
    if (!p->key)
        return 0;
    const char *name = after(p->key, ENV_PREFIX);
    if (name)
        return key_from_env(p->name, name, ret, error);
    return key_from_file(p->name, p->key + strlen(FILE_PREFIX), ret, error);
}
