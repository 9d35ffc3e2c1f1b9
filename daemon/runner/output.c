/* Output: from the process into the file, up to the cap; behind it only counted. */
#include "daemon/runner/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHUNK 65536
#define CHUNKS_PER_TURN 4
#define TERMINAL_BYTES_MAX (256 * 1024) /* more than the kernel holds of a PTY's output */

static char chunk[CHUNK];

static void keep(struct runner *r, size_t n)
{
    int64_t room = r->spec.output_bytes_max - r->kept;
    if (r->out_error || room <= 0)
        return;
    if (r->out_fd < 0)
        r->out_fd = open(RUN_FILE_OUT, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    size_t take = (int64_t)n < room ? n : (size_t)room;
    size_t done = 0;
    while (r->out_fd >= 0 && done < take) {
        ssize_t w = write(r->out_fd, chunk + done, take - done);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            break;
        done += (size_t)w;
    }
    /* Offsets in the file are offsets in the output, so nothing may follow a gap. */
    if (done < take)
        r->out_error = errno;
    r->kept += (int64_t)done;
}

/* Bytes taken; 0: nothing there now, or ever again. */
static size_t take_chunk(struct runner *r, size_t max)
{
    while (r->source_fd >= 0) {
        ssize_t n = read(r->source_fd, chunk, max < CHUNK ? max : CHUNK);
        if (n > 0) {
            r->total += n;
            keep(r, (size_t)n);
            return (size_t)n;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        close(r->source_fd);
        r->source_fd = -1;
    }
    return 0;
}

void output_read(struct runner *r)
{
    for (int i = 0; i < CHUNKS_PER_TURN && take_chunk(r, CHUNK) == CHUNK; i++)
        continue;
}

void output_drain(struct runner *r)
{
    /* A descendant may hold the other end for ever and write all the time; what the dead process wrote is in the kernel now. */
    int there = 0;
    size_t left = TERMINAL_BYTES_MAX;
    if (r->slave_fd < 0 && r->source_fd >= 0 && ioctl(r->source_fd, FIONREAD, &there) == 0)
        left = (size_t)there;
    size_t n;
    while (left > 0 && (n = take_chunk(r, left)) > 0)
        left -= n;
}

int output_sync(struct runner *r)
{
    return r->kept > 0 ? fdatasync(r->out_fd) : 0;
}
