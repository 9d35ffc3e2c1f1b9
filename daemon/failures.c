#include "failures.h"

#include "daemon/base/mem.h"
#include "daemon/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FAILURES_NAME "agentd.failures" /* in the state folder; beside the socket it has the socket's name in front */
#define FAILURES_ENDING ".failures"
#define FAILURES_BYTES_MAX 65536 /* of a file; a longer one begins anew */

static int64_t clock_of(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- reading ---- */

struct reading {
    struct failures *f;
    int64_t now_ms, last_ms; /* CLOCK_BOOTTIME */
};

static void take_end(struct reading *r, int64_t boot_ms, int64_t wall_ms, const char *reason)
{
    int64_t age_ms = r->now_ms - boot_ms;
    r->f->n += age_ms <= FAILURES_WINDOW_MS;
    if (age_ms > FAILURES_TOLD_MS || boot_ms < r->last_ms)
        return;
    r->f->again = r->f->tried && age_ms <= FAILURES_WINDOW_MS && boot_ms - r->last_ms <= FAILURES_WINDOW_MS;
    r->f->told_ms = wall_ms;
    snprintf(r->f->reason, sizeof r->f->reason, "%s", reason);
}

/* A line that is cut or strange says nothing. */
static void take_line(struct reading *r, const char *line)
{
    char word[4], boot[CLOCK_BOOT_ID_SIZE];
    int64_t boot_ms, wall_ms;
    int at = 0;
    if (sscanf(line, "%3s %36s %" SCNd64 " %" SCNd64 "%n", word, boot, &boot_ms, &wall_ms, &at) != 4 ||
        strcmp(boot, r->f->boot_id) != 0 || boot_ms < 0 || boot_ms > r->now_ms)
        return;
    bool end = strcmp(word, "end") == 0;
    if (end)
        take_end(r, boot_ms, wall_ms, line[at] == ' ' ? line + at + 1 : "");
    else if (strcmp(word, "try") != 0)
        return;
    if (boot_ms >= r->last_ms)
        r->f->tried = !end;
    r->last_ms = boot_ms > r->last_ms ? boot_ms : r->last_ms;
}

/* The folder of the socket may be anybody's. */
static bool is_ours(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid();
}

static void read_file(struct reading *r, const char *path)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    CLEANUP(buf_free) struct buf text = {0};
    ssize_t n = is_ours(fd) ? 1 : 0;
    while (n > 0 && text.n < 2 * FAILURES_BYTES_MAX && (n = read(fd, buf_reserve(&text, 4096), 4096)) > 0)
        text.n += (size_t)n;
    close(fd);
    char *rest = NULL;
    buf_putc(&text, '\n');
    for (char *line = strtok_r(text.p, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        take_line(r, line);
}

void failures_open(struct failures *f, const char *socket_path, const char *state_dir, const char *boot_id)
{
    *f = (struct failures){0};
    snprintf(f->boot_id, sizeof f->boot_id, "%s", boot_id);
    buf_printf(&f->paths[0], "%s" FAILURES_ENDING, socket_path);
    buf_printf(&f->paths[1], "%s/" FAILURES_NAME, state_dir);
    struct reading r = {.f = f, .now_ms = clock_of(CLOCK_BOOTTIME), .last_ms = -1};
    for (int i = 0; i < 2; i++)
        if (f->paths[i].n)
            read_file(&r, buf_cstr(&f->paths[i]));
}

void failures_close(struct failures *f)
{
    buf_free(&f->paths[0]);
    buf_free(&f->paths[1]);
}

bool failures_read_only(const struct failures *f)
{
    const char *counted = getenv(LIFECYCLE_IO_EXITS_ENV);
    return ((f->n >= FAILURES_MAX || f->again) && !f->tried) || (counted && atoi(counted) >= FAILURES_MAX);
}

/* ---- writing ---- */

static bool write_line(const char *path, struct str line)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool long_enough = fstat(fd, &st) == 0 && st.st_size > FAILURES_BYTES_MAX;
    bool wrote = is_ours(fd) && (!long_enough || ftruncate(fd, 0) == 0) && write(fd, line.p, line.n) == (ssize_t)line.n;
    close(fd);
    return wrote;
}

static void note(const struct failures *f, const char *word, const char *reason)
{
    CLEANUP(buf_free) struct buf line = {0};
    buf_printf(&line, "%s %s %" PRId64 " %" PRId64, word, f->boot_id, clock_of(CLOCK_BOOTTIME), clock_of(CLOCK_REALTIME));
    if (*reason)
        buf_putc(&line, ' ');
    for (const char *c = reason; *c && c - reason < FAILURES_REASON_MAX - 1; c++)
        buf_putc(&line, (unsigned char)*c < 0x20 ? ' ' : *c);
    buf_putc(&line, '\n');
    for (int i = 0; i < 2; i++)
        if (f->paths[i].n && write_line(buf_cstr(&f->paths[i]), buf_view(&line)))
            return;
}

void failures_note_end(const struct failures *f, const char *reason)
{
    note(f, "end", reason);
}

void failures_note_try(const struct failures *f)
{
    note(f, "try", "");
}
