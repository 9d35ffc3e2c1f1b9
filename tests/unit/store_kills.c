/* The store when its process is killed, at any moment or at each boundary: nothing that was acknowledged is lost. */
#include "store_numbered.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Reads lines of numbers; the last one, or 0 at the end before `until`. */
static int64_t read_until(FILE *f, int64_t until)
{
    int64_t last = 0, n;
    while (last < until && fscanf(f, "%" SCNd64, &n) == 1)
        last = n;
    return last;
}

/* Commits numbered batches for ever, and prints the number of each once it is done. */
struct writer {
    struct store *store;
    int64_t n;
};

static void writer_next(struct writer *w);

static void writer_done(void *arg, int status, struct store_batch *batch, const char *error)
{
    struct writer *w = arg;
    if (status) {
        fprintf(stderr, "%s\n", error);
        store_batch_free(batch);
        _exit(1);
    }
    printf("%" PRId64 "\n", w->n);
    if (fflush(stdout))
        _exit(1);
    writer_next(w);
}

static void writer_next(struct writer *w)
{
    store_commit(w->store, numbered(++w->n), writer_done, w);
}

int child_write(const char *dir)
{
    uv_loop_t loop;
    struct writer w = {0};
    CLEANUP(buf_free) struct buf error = {0};
    uv_loop_init(&loop);
    if (store_open(dir, &loop, &w.store, &error)) {
        fprintf(stderr, "%s\n", buf_cstr(&error));
        return 1;
    }
    w.n = store_pos_last(w.store) / EVENTS_PER_BATCH;
    writer_next(&w);
    return uv_run(&loop, UV_RUN_DEFAULT);
}

/* Kills the writer after some commits were acknowledged, again and again on the same folder. */
void a_killed_writer_loses_nothing_acknowledged(void **state)
{
    (void)state;
    struct box b;
    int64_t whole = 0;
    box_make(&b);
    for (int round = 0; round < 12; round++) {
        int out;
        pid_t pid = child_start("write", b.dir, NULL, &out);
        FILE *f = fdopen(out, "r");
        int64_t seen = read_until(f, whole + 1 + 7 * round);
        assert_true(seen > whole);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int64_t rest = read_until(f, INT64_MAX); /* acknowledged before it died */
        seen = rest ? rest : seen;
        fclose(f);
        assert_true(WIFSIGNALED(child_wait(pid)));
        assert_int_equal(box_open(&b), 0);
        whole = check_whole(&b);
        assert_true(whole == seen || whole == seen + 1);
        box_close(&b);
    }
    box_free(&b);
}

#ifdef AGENTD_FAILPOINTS
/* Dies at the nth time that it comes to a named point; what is there then is a whole number of batches. */
static void check_failpoint(const char *failpoint, int64_t acknowledged, int64_t whole)
{
    struct box b;
    int out;
    box_make(&b);
    pid_t pid = child_start("write", b.dir, failpoint, &out);
    FILE *f = fdopen(out, "r");
    int64_t last = read_until(f, INT64_MAX);
    fclose(f);
    if (acknowledged >= 0)
        assert_int_equal(last, acknowledged);
    else
        whole = last; /* wherever it came to it */
    int status = child_wait(pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(check_whole(&b), whole);
    assert_int_equal(access(box_path(&b, "blobs/partial"), F_OK), -1);
    for (int64_t n = whole + 1; n <= 6; n++) /* goes on over what the dead one left */
        box_commit_ok(&b, numbered(n));
    assert_int_equal(check_whole(&b), whole > 6 ? whole : 6);
    box_free(&b);
}
#endif

void a_writer_killed_at_each_boundary_loses_nothing(void **state)
{
    (void)state;
#ifdef AGENTD_FAILPOINTS
    check_failpoint("store.before_commit:3", 2, 2);
    check_failpoint("store.after_commit:3", 2, 3); /* committed, and nobody was told */
    check_failpoint("store.blob.written", 4, 4);
    check_failpoint("store.blob.synced", 4, 4);
    check_failpoint("store.blob.renamed", 4, 4);
    check_failpoint("store.blob.folder_synced", 4, 4);
    check_failpoint("store.after_checkpoint", -1, -1);
#else
    skip(); /* set up the build with -Dfailpoints=true */
#endif
}
