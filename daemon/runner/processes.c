#include "daemon/runner/processes.h"

#include "daemon/base/mem.h"
#include "daemon/base/str.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define PASSES_MAX 20          /* a process may be forking while it is being killed */
#define GONE_MS_MAX 50         /* waiting for one killed process */
#define ENVIRON_BYTES_MAX 1048576

struct process {
    pid_t pid, parent;
    bool zombie, below;
};

struct process_list {
    struct process *p;
    size_t n, cap;
};

/* proc(5), /proc/pid/stat: the name is in parentheses and may hold anything, so the last one counts. */
static int stat_read(pid_t pid, struct process *ret)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return -1;
    text[n] = 0;
    const char *end = strrchr(text, ')');
    char state;
    int parent;
    if (!end || sscanf(end + 1, " %c %d", &state, &parent) != 2)
        return -1;
    *ret = (struct process){.pid = pid, .parent = parent, .zombie = state == 'Z' || state == 'X'};
    return 0;
}

typedef void process_cb(pid_t pid, void *arg);

static void each_process(process_cb *fn, void *arg)
{
    DIR *d = opendir("/proc");
    if (!d)
        return;
    struct dirent *e;
    while ((e = readdir(d)))
        if (isdigit((unsigned char)e->d_name[0]))
            fn((pid_t)atoi(e->d_name), arg);
    closedir(d);
}

static void collect_cb(pid_t pid, void *arg)
{
    struct process_list *l = arg;
    struct process p;
    if (stat_read(pid, &p) < 0)
        return;
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 256;
        l->p = mem_realloc(l->p, l->cap * sizeof *l->p);
    }
    l->p[l->n++] = p;
}

static bool parent_below(const struct process_list *l, pid_t root, pid_t parent)
{
    if (parent == root)
        return true;
    for (size_t i = 0; i < l->n; i++)
        if (l->p[i].pid == parent)
            return l->p[i].below;
    return false;
}

static void mark_below(struct process_list *l, pid_t root)
{
    bool moved = true;
    while (moved) {
        moved = false;
        for (size_t i = 0; i < l->n; i++) {
            struct process *p = &l->p[i];
            if (!p->below && parent_below(l, root, p->parent))
                p->below = moved = true;
        }
    }
}

/* The parent is read again behind the open: if it is still the same, the descriptor is of the process that was meant. */
static bool signal_checked(const struct process *p, int signal)
{
    int fd = pidfd_open(p->pid, 0);
    if (fd < 0)
        return false;
    struct process now;
    bool same = stat_read(p->pid, &now) == 0 && now.parent == p->parent && !now.zombie;
    bool sent = same && pidfd_send_signal(fd, signal, NULL, 0) == 0;
    close(fd);
    return sent;
}

size_t processes_signal_below(pid_t root, int signal)
{
    struct process_list l = {0};
    each_process(collect_cb, &l);
    mark_below(&l, root);
    size_t n = 0;
    for (size_t i = 0; i < l.n; i++)
        if (l.p[i].below && !l.p[i].zombie && signal_checked(&l.p[i], signal))
            n++;
    mem_free(l.p);
    return n;
}

static bool environ_holds(pid_t pid, const char *marker)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t size = strlen(marker) + 1, used = 0, seen = 0;
    char text[8192];
    bool found = false, skip = false;
    ssize_t n;
    while (!found && seen < ENVIRON_BYTES_MAX && (n = read(fd, text + used, sizeof text - used)) > 0) {
        used += (size_t)n;
        seen += (size_t)n;
        size_t at = 0;
        for (char *end; !found && (end = memchr(text + at, 0, used - at)); at = (size_t)(end - text) + 1) {
            found = !skip && (size_t)(end - text) + 1 - at == size && memcmp(text + at, marker, size) == 0;
            skip = false;
        }
        /* A variable that fills the whole window is longer than any marker: its rest is skipped. */
        if (at == 0 && used == sizeof text) {
            skip = true;
            used = 0;
        } else {
            memmove(text, text + at, used - at);
            used -= at;
        }
    }
    close(fd);
    return found;
}

struct marked {
    const char *marker;
    size_t n;
};

static void kill_marked_cb(pid_t pid, void *arg)
{
    struct marked *m = arg;
    if (pid == getpid())
        return;
    int fd = pidfd_open(pid, 0);
    if (fd < 0)
        return;
    if (environ_holds(pid, m->marker) && pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0) {
        m->n++;
        struct pollfd gone = {.fd = fd, .events = POLLIN};
        poll(&gone, 1, GONE_MS_MAX);
    }
    close(fd);
}

size_t processes_kill_marked(const char *marker)
{
    size_t total = 0;
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        struct marked m = {.marker = marker};
        each_process(kill_marked_cb, &m);
        if (m.n == 0)
            break;
        total += m.n;
    }
    return total;
}
