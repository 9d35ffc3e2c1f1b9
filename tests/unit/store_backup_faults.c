/* Copies that find no room. */
#include "store_numbered.h"

#include "fault_vfs.h"

#include <dirent.h>
#include <sqlite3.h>
#include <string.h>

struct backup_end {
    struct buf *error;
    int status;
};

static void backup_ended(void *arg, int status, const char *error)
{
    struct backup_end *end = arg;
    end->status = status;
    buf_clear(end->error);
    buf_puts(end->error, error);
}

int box_backup(struct box *b)
{
    struct backup_end end = {.error = &b->error, .status = -1};
    store_backup(b->store, box_path(b, "copy"), backup_ended, &end);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    return end.status;
}

void expect_no_copy(const struct box *b)
{
    struct dirent *entry;
    DIR *dir = opendir(b->dir);
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        assert_int_not_equal(strncmp(entry->d_name, "copy", 4), 0);
    closedir(dir);
}

/* At each of its writes in turn. */
void a_backup_without_room_leaves_nothing(void **state)
{
    (void)state;
    struct box b;
    bool fired = true;
    box_numbered(&b, 6); /* with content that goes back into its row */
    for (long nth = 1; fired; nth += nth < 30 ? 1 : 7) {
        fault_vfs_arm(FAULT_WRITE, nth, SQLITE_FULL, true);
        int status = box_backup(&b);
        fired = fault_vfs_disarm();
        assert_int_equal(status, fired ? STORE_E_FULL : 0);
        if (fired)
            expect_no_copy(&b);
        if (fired)
            assert_non_null(strstr(buf_cstr(&b.error), "full"));
    }
    box_commit_ok(&b, numbered(7)); /* what happened to them is no matter of the journal */
    assert_int_equal(check_whole(&b), 7);
    box_free(&b);
}
