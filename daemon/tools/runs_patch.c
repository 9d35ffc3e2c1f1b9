/* A patch is the one effect that can be looked at when it was cut short: its manifest holds the hashes of before and after. agentd-tool
 * finishes or undoes it; what it did then becomes the run's output, as if the patch had come to its end. Harmless to repeat. */
#include "daemon/base/failpoint.h"
#include "daemon/base/mem.h"
#include "daemon/runner/patch.h"
#include "daemon/runner/processes.h"
#include "daemon/runner/record.h"
#include "daemon/tools/link.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIES 3 /* somebody may kill it, too */
#define ENV_MAX 16
#define HALF                                                                                                                            \
    "some files may be as it wants them and others not; their old contents stand beside them as .NAME.agentd-*.old"

static void put_marker(const char *task, const char *run, struct buf *b)
{
    buf_printf(b, RUN_MARKER "%s/%s", task, run);
}

size_t runs_kill_left(const char *task, const char *run)
{
    CLEANUP(buf_free) struct buf marker = {0};
    put_marker(task, run, &marker);
    return processes_kill_marked(marker.p);
}

/* agentd-tool says to `out` what it did, or to nobody if that is negative. Its exit code; negative: it has none. */
static int run_tool(const struct runs *r, char *manifest, char *marker, int out)
{
    char name[] = "agentd-tool", verb[] = "apply-patch", recover[] = "--recover";
    char *argv[] = {name, verb, recover, manifest, NULL}, *env[ENV_MAX] = {marker};
    char **more = FAILPOINT_ENV();
    for (size_t n = 1; n < ENV_MAX - 1 && *more; more++)
        env[n++] = *more;
    pid_t pid;
    int status;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd <= 2; fd++)
        if ((fd == STDOUT_FILENO && out >= 0 ? posix_spawn_file_actions_adddup2(&actions, out, fd)
                                             : posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0)) != 0)
            mem_none();
    int error = posix_spawn(&pid, r->tool_path, &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    if (error)
        return -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What the patch has changed is all that there is to say of it: an error that was told before holds no more. */
static void put_output(int dirfd, int report, struct run_exit *ret)
{
    char piece[16384];
    off_t at = 0;
    int fd = dirfd < 0 ? -1 : openat(dirfd, RUN_FILE_OUT, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (ssize_t n; fd >= 0 && (n = pread(report, piece, sizeof piece, at)) > 0; at += n)
        if (record_write_all(fd, str_n(piece, (size_t)n)) < 0)
            break; /* a full disk: that it is applied is in its record */
    if (fd < 0)
        return;
    close(fd);
    ret->output_bytes = at;
}

enum settled { SETTLED_FINISHED, SETTLED_UNDONE, SETTLED_NOT, SETTLED_UNSEEN };

/* The daemon that began it may have been killed, and its agentd-tool be still at work, or stopped: two would each see the other's half. */
static enum settled settle(struct runs *r, const char *task, const char *run, int dirfd, struct run_exit *ret)
{
    CLEANUP(buf_free) struct buf manifest = {0}, marker = {0};
    buf_printf(&manifest, "%s/%s/%s/%s", r->dir, task, run, RUN_FILE_PATCH);
    put_marker(task, run, &marker);
    int code = -1;
    for (int i = 0; i < TRIES && (code < 0 || code == MEM_EXIT_STATUS); i++) {
        runs_kill_left(task, run);
        int report = memfd_create("report", MFD_CLOEXEC);
        code = run_tool(r, manifest.p, marker.p, report);
        if (code == PATCH_FINISHED)
            put_output(dirfd, report, ret);
        if (report >= 0)
            close(report);
    }
    return code == PATCH_FINISHED   ? SETTLED_FINISHED
           : code == PATCH_UNDONE   ? SETTLED_UNDONE
           : code == PATCH_CONFLICT ? SETTLED_NOT
                                    : SETTLED_UNSEEN;
}

static void set_detail(struct runs *r, const char *text, struct run_exit *ret)
{
    buf_clear(&r->detail);
    buf_puts(&r->detail, text);
    ret->detail = buf_view(&r->detail);
}

static void set_code(int64_t code, struct run_exit *ret)
{
    *ret = (struct run_exit){.outcome = RUN_OUTCOME_DONE,
                             .has_exit_code = true,
                             .exit_code = code,
                             .output_bytes = ret->output_bytes,
                             .duration_ms = ret->duration_ms,
                             .detail = ret->detail};
}

static void set_finished(struct runs *r, struct run_exit *ret)
{
    set_detail(r, "the patch was cut short; its contents were compared and it is now applied in whole", ret);
    set_code(PATCH_FINISHED, ret);
}

static void set_undone(struct runs *r, struct run_exit *ret)
{
    set_detail(r, "the patch was cut short; its contents were compared and nothing of it is applied", ret);
}

static bool spec_is_patch(int dirfd)
{
    CLEANUP(buf_free) struct buf bytes = {0};
    struct run_spec spec;
    return dirfd >= 0 && record_read_file(dirfd, RUN_FILE_SPEC, RUN_SPEC_BYTES_MAX, &bytes) == 0 &&
           run_spec_get(buf_view(&bytes), &spec) == 0 && spec.program == RUN_SPEC_PATCH;
}

bool runs_recover_patch(struct runs *r, const char *task, const char *run, int dirfd, bool patch, struct run_exit *ret)
{
    CLEANUP(buf_free) struct buf manifest = {0};
    *ret = (struct run_exit){0};
    buf_printf(&manifest, "%s/%s/%s/%s", r->dir, task, run, RUN_FILE_PATCH);
    if (access(manifest.p, F_OK) < 0) {
        /* It is there, durably, before anything is changed, and removed when nothing was. The spec may be lost with the power, so
         * whoever knows says that it is a patch. */
        if (errno != ENOENT || (!patch && !spec_is_patch(dirfd)))
            return false;
        set_detail(r, "the patch was cut short before it had changed anything", ret);
        set_code(PATCH_UNDONE, ret);
        return true;
    }
    switch (settle(r, task, run, dirfd, ret)) {
    case SETTLED_FINISHED:
        set_finished(r, ret);
        return true;
    case SETTLED_UNDONE:
        set_undone(r, ret);
        set_code(PATCH_UNDONE, ret);
        return true;
    case SETTLED_NOT:
    case SETTLED_UNSEEN:
        break;
    }
    return false;
}

void runs_settle_patch(struct runs *r, const char *task, const char *run, int dirfd, struct run_exit *ret)
{
    /* By a signal or without memory in the middle of what it did, or it could not take back what it had begun. An orderly failure leaves
     * no manifest. */
    if ((ret->has_exit_code && ret->exit_code == 0) || faccessat(dirfd, RUN_FILE_PATCH, F_OK, 0) < 0)
        return;
    switch (settle(r, task, run, dirfd, ret)) {
    case SETTLED_FINISHED:
        set_finished(r, ret);
        return;
    case SETTLED_UNDONE:
        set_undone(r, ret); /* how it ended stays as it was */
        return;
    case SETTLED_NOT:
        set_detail(r, "the patch could be neither finished nor taken back: " HALF, ret);
        return;
    case SETTLED_UNSEEN:
        set_detail(r, "the patch was cut short, and agentd-tool, which finishes it or takes it back, could not be run: " HALF, ret);
        return;
    }
}
