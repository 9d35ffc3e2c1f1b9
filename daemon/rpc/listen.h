#pragma once
/* The listening Unix socket as a file: its folder, its name, whose it is. Done by hand because uv_pipe_bind()
 * of libuv 1.44 cuts long paths without a word and its close unlinks whatever stands there. It accepts
 * nothing. Calls: base. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <sys/types.h>

/* The file that a socket made, so that only this very file is removed. */
struct listen_file {
    bool made;
    dev_t dev;
    ino_t ino;
};

/* Binds and listens. Makes missing folders (0700); refuses one that is another user's or that others can
 * write. A socket on which nobody listens is replaced; whatever else stands there is left alone; an owner
 * that is dead or does not accept is given `wait_ms` to go, in which the caller sleeps. 0 and a descriptor
 * (non-blocking, close-on-exec), or a sentence and -1, or the negative errno where the disk may be the reason. */
int listen_open(const char *path, int wait_ms, int *ret_fd, struct listen_file *ret_file, struct buf *error);
/* Whether an inherited descriptor is a listening Unix stream socket; makes it non-blocking and close-on-exec.
 * 0, or -1 and a sentence. */
int listen_inherited(int fd, struct buf *error);
/* Whether it is still the one that was made. */
bool listen_stands(const char *path, const struct listen_file *file);
/* Removes the file if it is still the one that was made. */
void listen_unlink(const char *path, const struct listen_file *file);
