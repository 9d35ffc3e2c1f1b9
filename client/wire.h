#pragma once
/* A Unix stream socket that carries lines. It knows no JSON. Nothing in it blocks longer than its caller wants. */
#include "daemon/base/buf.h"

#include <signal.h>
#include <stdint.h>

struct wire {
    int fd; /* -1: not connected */
    struct buf in;
    size_t start;   /* of the first line that was not taken */
    size_t scanned; /* no line feed before this place */
};

/* What ends a wait. */
struct wire_wait {
    int fd;              /* can be read; -1: none */
    int64_t deadline_ms; /* CLOCK_BOOTTIME; -1: none */
    volatile sig_atomic_t *interrupted; /* or NULL */
    const sigset_t *mask;               /* while waiting; NULL: unchanged */
};

enum wire_rc { WIRE_OK, WIRE_TIMEOUT, WIRE_INPUT, WIRE_LOST, WIRE_INTERRUPTED, WIRE_TOO_LONG };

/* Paths that do not fit into sockaddr_un go through a descriptor of their folder. 0, or a negative errno. */
int wire_connect(struct wire *w, const char *path);
void wire_close(struct wire *w);
/* Sends all of it; what comes in meanwhile is kept. WIRE_OK, _LOST or _INTERRUPTED. */
enum wire_rc wire_send(struct wire *w, struct str bytes, const struct wire_wait *wait);
/* Takes the next line (without its line feed, NUL-terminated, to be freed with mem_free) of at most bytes_max. */
enum wire_rc wire_receive(struct wire *w, size_t bytes_max, const struct wire_wait *wait, char **ret, size_t *ret_n);
/* Sleeps until the wait's deadline. WIRE_TIMEOUT, WIRE_INPUT or WIRE_INTERRUPTED. */
enum wire_rc wire_sleep(const struct wire_wait *wait);

int64_t wire_now_ms(void);
