/* Opening: the settings of a connection, what is refused and left as it was, and migrations. */
#include "test_store.h"

#include "daemon/store/db.h"
#include "daemon/store/migrate.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define A "t01aaaaaaaaaaaaaaaaaaaaaaaaa"

/* A store with one event, closed. */
static void box_used(struct box *b)
{
    box_make(b);
    assert_int_equal(box_open(b), 0);
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 1, 1);
    put_event(batch, 1, A, 1);
    box_commit_ok(b, batch);
    box_close(b);
}

static void change_database(struct box *b, const char *sql)
{
    sqlite3 *h;
    assert_int_equal(sqlite3_open(box_path(b, "agentd.db"), &h), SQLITE_OK);
    assert_int_equal(sqlite3_exec(h, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(h), SQLITE_OK);
}

static void read_file(const char *path, struct buf *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(read(fd, buf_reserve(ret, (size_t)st.st_size), (size_t)st.st_size), st.st_size);
    ret->n += (size_t)st.st_size;
    close(fd);
}

/* Refused with that status and words, and the file is byte for byte as it was. */
static void check_refused(struct box *b, int status, const char *words)
{
    CLEANUP(buf_free) struct buf before = {0};
    CLEANUP(buf_free) struct buf after = {0};
    read_file(box_path(b, "agentd.db"), &before);
    assert_int_equal(box_open(b), status);
    assert_null(b->store);
    if (!strstr(buf_cstr(&b->error), words))
        print_message("%s\n", buf_cstr(&b->error));
    assert_non_null(strstr(buf_cstr(&b->error), words));
    assert_non_null(strstr(buf_cstr(&b->error), "nothing was changed"));
    read_file(box_path(b, "agentd.db"), &after);
    assert_true(str_eq(buf_view(&before), buf_view(&after)));
}

static int64_t number(struct db *db, const char *sql)
{
    int64_t n = -1;
    assert_int_equal(db_number(db, sql, &n), 0);
    return n;
}

void connections_are_set_up_as_designed(void **state)
{
    (void)state;
    struct box b;
    struct db db;
    int on = -1;
    CLEANUP(buf_free) struct buf mode = {0};
    box_used(&b);
    assert_int_equal(db_open(&db, box_path(&b, "agentd.db"), 0, &b.error), 0);
    assert_int_equal(db_make_writer(&db, &b.error), 0);
    assert_int_equal(db_text(&db, "PRAGMA journal_mode", &mode), 0);
    assert_string_equal(buf_cstr(&mode), "wal");
    assert_int_equal(number(&db, "PRAGMA synchronous"), 2);
    assert_int_equal(number(&db, "PRAGMA page_size"), 4096);
    assert_int_equal(number(&db, "PRAGMA auto_vacuum"), 2);
    assert_int_equal(number(&db, "PRAGMA foreign_keys"), 1);
    assert_int_equal(number(&db, "PRAGMA trusted_schema"), 0);
    assert_int_equal(number(&db, "PRAGMA cell_size_check"), 1);
    assert_int_equal(number(&db, "PRAGMA temp_store"), 2);
    assert_int_equal(number(&db, "PRAGMA secure_delete"), 2);
    assert_int_equal(number(&db, "PRAGMA wal_autocheckpoint"), 0);
    assert_int_equal(number(&db, "PRAGMA application_id"), DB_APPLICATION_ID);
    assert_int_equal(number(&db, "PRAGMA user_version"), (int)migrations_n);
    assert_int_equal(number(&db,
                            "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
                            " AND name NOT LIKE 'sqlite_%' AND NOT strict"),
                     0);
    assert_int_equal(sqlite3_db_config(db.h, SQLITE_DBCONFIG_DEFENSIVE, -1, &on), SQLITE_OK);
    assert_int_equal(on, 1);
    assert_int_equal(sqlite3_limit(db.h, SQLITE_LIMIT_ATTACHED, -1), 0);
    db_close(&db);

    assert_int_equal(db_open(&db, box_path(&b, "agentd.db"), 0, &b.error), 0);
    assert_int_equal(db_make_reader(&db, &b.error), 0);
    assert_int_equal(db_exec(&db, "DELETE FROM events"), STORE_E_IO);
    assert_int_equal(sqlite3_db_config(db.h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, -1, &on), SQLITE_OK);
    assert_int_equal(on, 1);
    assert_int_equal(number(&db, "PRAGMA wal_autocheckpoint"), 0);
    db_close(&db);
    box_free(&b);
}

void a_newer_database_is_refused(void **state)
{
    (void)state;
    struct box b;
    char words[128];
    box_used(&b);
    change_database(&b, "PRAGMA user_version = 9");
    snprintf(words, sizeof words,
             "written by a newer agentd (schema 9, this one knows %zu): install the newer version",
             migrations_n);
    check_refused(&b, STORE_E_NEWER, words);
    snprintf(words, sizeof words, "PRAGMA user_version = %zu", migrations_n);
    change_database(&b, words);
    assert_int_equal(box_open(&b), 0); /* it was only refused, not harmed */
    assert_int_equal(count_events(b.store, A), 1);
    box_free(&b);
}

void a_foreign_database_is_refused(void **state)
{
    (void)state;
    struct box b;
    box_make(&b);
    change_database(&b, "CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')");
    check_refused(&b, STORE_E_FOREIGN, "not a database of agentd");
    change_database(&b, "PRAGMA application_id = 7");
    check_refused(&b, STORE_E_FOREIGN, "not a database of agentd");
    change_database(&b, "PRAGMA application_id = 0; PRAGMA user_version = 1; DROP TABLE notes");
    check_refused(&b, STORE_E_FOREIGN, "not a database of agentd");
    box_free(&b);
}

void a_file_that_is_no_database_is_refused(void **state)
{
    (void)state;
    struct box b;
    box_used(&b);
    int fd = open(box_path(&b, "agentd.db"), O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "these bytes were never a database", 33, 0), 33);
    close(fd);
    check_refused(&b, STORE_E_FOREIGN, "put a backup in its place");
    assert_int_equal(truncate(box_path(&b, "agentd.db"), 1000), 0);
    check_refused(&b, STORE_E_FOREIGN, "put a backup in its place");
    box_free(&b);
}

/* What its tasks wrote would be taken for left over by one that knows nothing of them. */
void a_lost_database_is_not_made_anew(void **state)
{
    (void)state;
    struct box b;
    box_used(&b);
    char old[300], kept[300];
    snprintf(old, sizeof old, "%s", box_path(&b, "agentd.db"));
    snprintf(kept, sizeof kept, "%s", box_path(&b, "kept"));
    assert_int_equal(mkdir(box_path(&b, "runs"), 0700), 0);
    assert_int_equal(mkdir(box_path(&b, "runs/task"), 0700), 0);
    assert_int_equal(rename(old, kept), 0);
    assert_int_equal(box_open(&b), STORE_E_FOREIGN);
    assert_non_null(strstr(buf_cstr(&b.error), "back in its place"));
    assert_int_equal(access(old, F_OK), -1);
    int fd = open(old, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* an empty one is none */
    assert_true(fd >= 0);
    close(fd);
    check_refused(&b, STORE_E_FOREIGN, "back in its place");
    assert_int_equal(rmdir(box_path(&b, "runs/task")), 0);
    char log[300];
    snprintf(log, sizeof log, "%s", box_path(&b, "agentd.db-wal"));
    fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "frames", 6), 6);
    check_refused(&b, STORE_E_FOREIGN, "agentd.db-wal");
    assert_int_equal(unlink(old), 0);
    assert_int_equal(box_open(&b), STORE_E_FOREIGN);
    assert_int_equal(access(log, F_OK), 0);
    assert_int_equal(ftruncate(fd, 0), 0); /* nor does an empty log hold anything */
    close(fd);
    assert_int_equal(box_open(&b), 0);
    box_close(&b);
    assert_int_equal(rename(kept, old), 0);
    assert_int_equal(box_open(&b), 0);
    box_close(&b);
    assert_int_equal(unlink(old), 0);
    assert_int_equal(box_open(&b), 0); /* nothing is there that it could harm */
    assert_int_equal(rmdir(box_path(&b, "runs")), 0);
    box_free(&b);
}

void another_migration_text_is_refused(void **state)
{
    (void)state;
    struct box b;
    box_used(&b);
    change_database(&b, "UPDATE migrations SET hash = randomblob(32) WHERE version = 1");
    check_refused(&b, STORE_E_FOREIGN, "another text of migration 0001_journal.sql");
    change_database(&b, "DELETE FROM migrations");
    check_refused(&b, STORE_E_FOREIGN, "another text of migration 0001_journal.sql");
    box_free(&b);
}

/* What a start leaves behind that was cut before its first commit. */
void an_empty_file_is_taken(void **state)
{
    (void)state;
    struct box b;
    box_make(&b);
    int fd = open(box_path(&b, "agentd.db"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(box_open(&b), 0);
    box_free(&b);
    box_make(&b);
    change_database(&b, "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL");
    assert_int_equal(box_open(&b), 0);
    box_free(&b);
}

static const struct migration steps[] = {
    {1,
     "0001_one.sql",
     "CREATE TABLE migrations (version INTEGER PRIMARY KEY, name TEXT, hash BLOB, at_ms INTEGER) STRICT;"
     "CREATE TABLE one (n INTEGER);",
     {1}},
    {2, "0002_two.sql", "ALTER TABLE one ADD COLUMN m INTEGER; UPDATE one SET m = 2 * n;", {2}},
    {3, "0003_three.sql", "CREATE TABLE three (n INTEGER); INSERT INTO one (n, m) VALUES (3, 3);", {3}},
    {4, "0004_wrong.sql", "DELETE FROM one; CREATE TABLE one (n INTEGER);", {4}},
};

static int migrate_to(struct box *b, struct db *db, size_t n)
{
    int64_t version;
    buf_clear(&b->error);
    int status = migrate_check(db, steps, n, &version, &b->error);
    return status ? status : migrate_run(db, box_path(b, "agentd.db"), steps, n, version, &b->error);
}

static void open_new(struct box *b, struct db *db)
{
    box_make(b);
    assert_int_equal(db_open(db, box_path(b, "agentd.db"), SQLITE_OPEN_CREATE, &b->error), 0);
    assert_int_equal(db_make_writer(db, &b->error), 0);
}

static int64_t number_in(struct box *b, const char *file, const char *sql)
{
    struct db db;
    assert_int_equal(db_open(&db, box_path(b, file), 0, &b->error), 0);
    int64_t n = number(&db, sql);
    db_close(&db);
    return n;
}

void migrations_run_once_and_in_order(void **state)
{
    (void)state;
    struct box b;
    struct db db;
    open_new(&b, &db);
    assert_int_equal(migrate_to(&b, &db, 1), 0);
    assert_int_equal(access(box_path(&b, "agentd.db.schema0"), F_OK), -1); /* nothing to copy yet */
    assert_int_equal(db_exec(&db, "INSERT INTO one VALUES (21)"), 0);
    assert_int_equal(migrate_to(&b, &db, 3), 0);
    assert_int_equal(migrate_to(&b, &db, 3), 0); /* nothing is left to do */
    assert_int_equal(number(&db, "PRAGMA user_version"), 3);
    assert_int_equal(number(&db, "SELECT m FROM one WHERE n = 21"), 42);
    assert_int_equal(number(&db, "SELECT count(*) FROM one"), 2);
    assert_int_equal(number(&db, "SELECT count(*) FROM migrations WHERE at_ms > 0"), 3);
    assert_int_equal(number_in(&b, "agentd.db.schema1", "PRAGMA user_version"), 1);
    assert_int_equal(number_in(&b, "agentd.db.schema1", "SELECT n FROM one"), 21);
    assert_int_equal(migrate_to(&b, &db, 2), STORE_E_NEWER);
    db_close(&db);
    box_free(&b);
}

void a_migration_that_fails_changes_nothing(void **state)
{
    (void)state;
    struct box b;
    struct db db;
    open_new(&b, &db);
    assert_int_equal(migrate_to(&b, &db, 2), 0);
    assert_int_equal(db_exec(&db, "INSERT INTO one VALUES (21, 42)"), 0);
    assert_int_equal(migrate_to(&b, &db, 4), STORE_E_IO);
    assert_non_null(strstr(buf_cstr(&b.error), "0004_wrong.sql"));
    assert_int_equal(number(&db, "PRAGMA user_version"), 3); /* those before it are whole */
    assert_int_equal(number(&db, "SELECT count(*) FROM one"), 2);
    assert_int_equal(number(&db, "SELECT max(version) FROM migrations"), 3);
    db_close(&db);
    box_free(&b);
}

void damage_is_found_by_the_check(void **state)
{
    (void)state;
    struct box b;
    box_make(&b);
    assert_int_equal(box_open(&b), 0);
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 3000, 1);
    for (int64_t seq = 1; seq <= 3000; seq++)
        put_event(batch, seq, A, seq);
    box_commit_ok(&b, batch);
    assert_int_equal(box_check(&b), 0);
    box_close(&b);
    int fd = open(box_path(&b, "agentd.db"), O_WRONLY | O_CLOEXEC);
    off_t end = lseek(fd, 0, SEEK_END);
    for (off_t page = 30; page * 4096 < end; page += 3)
        assert_int_equal(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, page * 4096), 8);
    close(fd);
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(box_check(&b), STORE_E_FOREIGN);
    assert_non_null(strstr(buf_cstr(&b.error), "damaged"));
    box_free(&b);
}
