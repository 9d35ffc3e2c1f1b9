/* agentd-tool: the tools that touch the workspace, run under agentd-runner like any command.
 *
 *   agentd-tool apply-patch [--max-bytes N] [--manifest FILE]   a patch on stdin; the folder is the current one
 *   agentd-tool apply-patch --recover FILE                      finishes or undoes a patch that was cut short
 *   agentd-tool view-image [--max-bytes N] [--] PATH            the image's bytes to stdout
 *
 * Exit: 0 done (recovery: finished) · 1 not, and nothing was changed (undone) · 2 usage (recovery: conflict). */
#include "daemon/base/mem.h"
#include "daemon/runner/patch.h"
#include "daemon/runner/record.h"
#include "daemon/tools/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BYTES_MAX 8388608

struct options {
    size_t bytes_max;
    const char *manifest, *recover, *path;
};

static int usage(void)
{
    fputs("usage: agentd-tool apply-patch [--max-bytes N] [--manifest FILE] < PATCH\n"
          "       agentd-tool apply-patch --recover FILE\n"
          "       agentd-tool view-image [--max-bytes N] [--] PATH\n",
          stderr);
    return 2;
}

static int read_options(int argc, char **argv, struct options *ret)
{
    *ret = (struct options){.bytes_max = BYTES_MAX};
    int i = 2;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--max-bytes") == 0)
            ret->bytes_max = (size_t)strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--manifest") == 0)
            ret->manifest = argv[i + 1];
        else if (strcmp(argv[i], "--recover") == 0)
            ret->recover = argv[i + 1];
        else
            return -1;
    }
    if (i < argc)
        ret->path = argv[i++];
    return i == argc ? 0 : -1;
}

static int write_out(int fd, const struct buf *b)
{
    return record_write_all(fd, buf_view(b));
}

static int read_stdin(size_t max, struct buf *b)
{
    ssize_t n;
    while ((n = read(STDIN_FILENO, buf_reserve(b, 65536), 65536)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        b->n += (size_t)n;
        if (b->n > max) {
            errno = EFBIG;
            return -1;
        }
    }
    if (b->p)
        b->p[b->n] = 0;
    return 0;
}

static int apply(const struct options *o)
{
    CLEANUP(buf_free) struct buf text = {0};
    CLEANUP(buf_free) struct buf report = {0};
    CLEANUP(buf_free) struct buf error = {0};
    if (read_stdin(o->bytes_max, &text) < 0) {
        fprintf(stderr, "The patch cannot be read: %s (at most %zu bytes)\n", strerror(errno), o->bytes_max);
        return 1;
    }
    int result = patch_apply(buf_view(&text), o->manifest, &report, &error);
    if (result != 0) {
        buf_puts(&error, result == PATCH_E_HALF ? "\nThe rest was left as it is.\n" : "\nNothing was changed.\n");
        write_out(STDERR_FILENO, &error);
        return 1;
    }
    return write_out(STDOUT_FILENO, &report) < 0;
}

static int recover(const struct options *o)
{
    CLEANUP(buf_free) struct buf report = {0};
    enum patch_recovered result = patch_recover(o->recover, &report);
    write_out(STDOUT_FILENO, &report);
    return (int)result;
}

static int view_image(const struct options *o)
{
    CLEANUP(buf_free) struct buf data = {0};
    struct stat st;
    if (stat(o->path, &st) == 0 && !S_ISREG(st.st_mode)) {
        fprintf(stderr, "%s: this is no file\n", o->path);
        return 1;
    }
    if (record_read_file(AT_FDCWD, o->path, o->bytes_max, &data) < 0) {
        if (errno == EFBIG)
            fprintf(stderr, "%s: larger than %zu bytes; make a smaller copy and view that\n", o->path, o->bytes_max);
        else
            fprintf(stderr, "%s: %s\n", o->path, strerror(errno));
        return 1;
    }
    if (!image_type(buf_view(&data))) {
        fprintf(stderr, "%s: this is no PNG, JPEG, GIF or WebP image; convert it first\n", o->path);
        return 1;
    }
    return write_out(STDOUT_FILENO, &data) < 0;
}

int main(int argc, char **argv)
{
    struct options o;
    if (argc < 2 || read_options(argc, argv, &o) < 0)
        return usage();
    if (strcmp(argv[1], "apply-patch") == 0 && !o.path)
        return o.recover ? recover(&o) : apply(&o);
    if (strcmp(argv[1], "view-image") == 0 && o.path)
        return view_image(&o);
    return usage();
}
