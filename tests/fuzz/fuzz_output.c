/* Output of a run as the model sees it: head, tail and a count, from a file that grows between two looks.
 * Input: a byte of flags (1: the run has ended), the bound, how much is there at the first look (two bytes
 * each), the bytes. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/runner/record.h"
#include "daemon/tools/link.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUDGET_MIN 256
#define NOTE_BYTES 80 /* the line that counts what was not kept */

static char folder[64], out_path[96], exit_path[96];
static struct runs runs;
static struct limits limits;

static void clean_up(void)
{
    char path[80];
    unlink(out_path);
    unlink(exit_path);
    snprintf(path, sizeof path, "%s/t/r", folder);
    rmdir(path);
    snprintf(path, sizeof path, "%s/t", folder);
    rmdir(path);
    rmdir(folder);
}

static void set_up(void)
{
    char path[80];
    if (folder[0])
        return;
    strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz-XXXXXX" : "/tmp/fuzz-XXXXXX");
    HOLDS(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/t", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/t/r", folder);
    mkdir(path, 0700);
    snprintf(out_path, sizeof out_path, "%s/t/r/" RUN_FILE_OUT, folder);
    snprintf(exit_path, sizeof exit_path, "%s/t/r/" RUN_FILE_EXIT, folder);
    limits = limits_default();
    runs = (struct runs){.dir = folder, .limits = &limits};
    list_init(&runs.links);
    list_init(&runs.refused);
    atexit(clean_up);
}

static void write_file(const char *path, struct str bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    HOLDS(fd >= 0 && record_write_all(fd, bytes) == 0);
    close(fd);
}

/* Returns up to where it was shown. */
static int64_t look(int64_t from, int64_t size, int64_t bytes_max, bool ended)
{
    CLEANUP(buf_free) struct buf scratch = {0};
    struct run_output o;
    size_t most = (size_t)(bytes_max < BUDGET_MIN ? BUDGET_MIN : bytes_max);
    runs_collect(&runs, "t", "r", from, bytes_max, false, &scratch, &o);
    HOLDS(utf8_valid(o.text) && !memchr(o.text.p, 0, o.text.n) && o.text.n <= most + NOTE_BYTES);
    HOLDS(o.end >= from && o.end <= size && o.covered == o.end - from);
    HOLDS(o.end + 3 >= size && (!ended || o.end == size));
    HOLDS(!ended || from == size || !memchr(o.text.p, '\r', o.text.n));
    return o.end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf record = {0};
    struct str in = fuzz_input(data, size);
    bool ended = fuzz_byte(&in) & 1;
    int64_t bytes_max = (int64_t)fuzz_byte(&in) * 16;
    size_t high = fuzz_byte(&in), first = high << 8 | fuzz_byte(&in);
    set_up();
    if (first > in.n)
        first = in.n;
    unlink(exit_path);
    write_file(out_path, str_n(in.p, first));
    int64_t seen = look(0, (int64_t)first, bytes_max, false);
    write_file(out_path, in);
    if (ended) {
        run_record_put(&record, &(struct run_record){.end = RUN_END_EXITED, .output_bytes = (int64_t)in.n});
        write_file(exit_path, buf_view(&record));
    }
    look(seen, (int64_t)in.n, bytes_max, ended);
    return 0;
}
