/* apply_patch on real files in a folder of its own: what fits, what does not, and that nothing is ever half done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/base/mem.h"
#include "daemon/base/pack.h"
#include "daemon/runner/patch.h"
#include "daemon/runner/record.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sodium.h>
#include <sys/resource.h>
#include <unistd.h>

static char folder[64];
static struct buf report, error;

static int remove_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/agentd-patch-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    buf_free(&report);
    buf_free(&error);
    return chdir("/") == 0 && nftw(folder, remove_cb, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : -1;
}

static void put_bytes(const char *path, struct str bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(record_write_all(fd, bytes), 0);
    close(fd);
}

static void put(const char *path, const char *text)
{
    put_bytes(path, str_of(text));
}

static void has(const char *path, const char *text)
{
    CLEANUP(buf_free) struct buf b = {0};
    assert_int_equal(record_read_file(AT_FDCWD, path, 1 << 20, &b), 0);
    assert_string_equal(buf_cstr(&b), text);
}

static void has_not(const char *path)
{
    assert_int_equal(access(path, F_OK), -1);
}

/* No temporary is left beside the files. */
static size_t entries(const char *path)
{
    size_t n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static int apply_as(const char *patch, const char *manifest)
{
    buf_clear(&report);
    buf_clear(&error);
    return patch_apply(str_of(patch), manifest, &report, &error);
}

/* `body` stands between the begin and the end of a patch. */
static void fits(const char *body, const char *reported)
{
    CLEANUP(buf_free) struct buf patch = {0};
    buf_printf(&patch, "*** Begin Patch\n%s*** End Patch\n", body);
    if (apply_as(patch.p, NULL) < 0)
        fail_msg("%s", buf_cstr(&error));
    assert_string_equal(buf_cstr(&report), reported);
}

static void fails(const char *body, const char *because)
{
    CLEANUP(buf_free) struct buf patch = {0};
    buf_printf(&patch, "*** Begin Patch\n%s*** End Patch\n", body);
    assert_int_equal(apply_as(patch.p, NULL), -1);
    if (!strstr(buf_cstr(&error), because))
        fail_msg("expected \"%s\" in: %s", because, buf_cstr(&error));
}

/* ---- whole files ---- */

static void test_add(void **state)
{
    (void)state;
    fits("*** Add File: new.txt\n+one\n+\n+  three\n", "A new.txt\n");
    has("new.txt", "one\n\n  three\n");
    fits("*** Add File: a/b/c.txt\n+x\n*** Add File: empty\n", "A a/b/c.txt\nA empty\n");
    has("a/b/c.txt", "x\n");
    has("empty", "");
    fits("*** Add File: new.txt\n+other\n", "M new.txt\n");
    has("new.txt", "other\n");
    assert_int_equal(entries("."), 3);
    char body[256];
    snprintf(body, sizeof body, "*** Add File: %s/absolute\n+x\n", folder);
    CLEANUP(buf_free) struct buf patch = {0};
    buf_printf(&patch, "*** Begin Patch\n%s*** End Patch", body);
    assert_int_equal(apply_as(patch.p, NULL), 0);
    has("absolute", "x\n");
}

static void test_delete(void **state)
{
    (void)state;
    put("a", "x");
    put("target", "t");
    assert_int_equal(symlink("target", "link"), 0);
    fits("*** Delete File: a\n*** Delete File: link\n", "D a\nD link\n");
    has_not("a");
    has_not("link");
    has("target", "t");
    fails("*** Delete File: a\n", "a: there is no such file to delete");
    assert_int_equal(mkdir("d", 0700), 0);
    fails("*** Delete File: d\n", "d: this is a folder");
}

static void test_move(void **state)
{
    (void)state;
    put("a", "1\n2\n");
    chmod("a", 0755);
    fits("*** Update File: a\n*** Move to: sub/b\n@@\n 1\n-2\n+two\n", "R a -> sub/b\n");
    has_not("a");
    has("sub/b", "1\ntwo\n");
    struct stat st;
    stat("sub/b", &st);
    assert_int_equal(st.st_mode & 07777, 0755);
    fits("*** Update File: sub/b\n*** Move to: c\n", "R sub/b -> c\n");
    has("c", "1\ntwo\n");
    put("over", "old\n");
    fits("*** Update File: c\n*** Move to: over\n", "R c -> over\n");
    has("over", "1\ntwo\n");
    fails("*** Update File: gone\n*** Move to: x\n", "gone: there is no such file to update");
}

static void test_mode_and_links(void **state)
{
    (void)state;
    put("real", "a\nb\n");
    chmod("real", 0640);
    assert_int_equal(symlink("real", "link"), 0);
    fits("*** Update File: link\n@@\n a\n-b\n+c\n", "M link\n");
    struct stat st;
    lstat("link", &st);
    assert_true(S_ISLNK(st.st_mode));
    stat("real", &st);
    assert_int_equal(st.st_mode & 07777, 0640);
    has("real", "a\nc\n");
    /* Two names of one file are one file. */
    fits("*** Update File: link\n@@\n-c\n+d\n*** Update File: ./real\n@@\n-d\n+e\n", "M link\n");
    has("real", "a\ne\n");
}

/* ---- hunks ---- */

static void test_hunks(void **state)
{
    (void)state;
    put("f", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    fits("*** Update File: f\n@@\n 1\n-2\n+two\n 3\n@@\n 5\n 6\n+6.5\n 7\n@@\n-9\n", "M f\n");
    has("f", "1\ntwo\n3\n4\n5\n6\n6.5\n7\n8\n");
    fits("*** Update File: f\n@@\n-8\n+eight\n@@\n-1\n+one\n", "M f\n"); /* out of order, but in one place only */
    has("f", "one\ntwo\n3\n4\n5\n6\n6.5\n7\neight\n");
    fits("*** Update File: f\n-one\n+1\n", "M f\n"); /* the first @@ may be missing */
    fits("*** Update File: f\n@@\n 1\n two\n", "= f (unchanged)\n");
}

static void test_anchors(void **state)
{
    (void)state;
    const char *text = "class A:\n    def f():\n        return 1\n\nclass B:\n    def f():\n        return 1\n    def g():\n        return 1\n";
    put("f", text);
    fits("*** Update File: f\n@@ class B:\n@@     def g():\n-        return 1\n+        return 2\n", "M f\n");
    has("f", "class A:\n    def f():\n        return 1\n\nclass B:\n    def f():\n        return 1\n    def g():\n        return 2\n");
    put("f", text);
    fits("*** Update File: f\n@@ class B\n     def f():\n-        return 1\n+        return 3\n", "M f\n");
    has("f", "class A:\n    def f():\n        return 1\n\nclass B:\n    def f():\n        return 3\n    def g():\n        return 1\n");
    put("f", text);
    /* The anchor is the hunk's first line again. */
    fits("*** Update File: f\n@@     def g():\n     def g():\n-        return 1\n+        return 4\n", "M f\n");
    has("f", "class A:\n    def f():\n        return 1\n\nclass B:\n    def f():\n        return 1\n    def g():\n        return 4\n");
    /* Numbers of another format are no anchor. */
    put("f", "a\nb\nc\n");
    fits("*** Update File: f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n", "M f\n");
    has("f", "a\nB\nc\n");
    /* Only additions: behind the anchor, else at the end. */
    fits("*** Update File: f\n@@ a\n+after a\n", "M f\n");
    has("f", "a\nafter a\nB\nc\n");
    fits("*** Update File: f\n@@\n+last\n", "M f\n");
    has("f", "a\nafter a\nB\nc\nlast\n");
    fails("*** Update File: f\n@@ nowhere\n-nothing\n+x\n", "@@ nowhere");
}

static void test_end_of_file(void **state)
{
    (void)state;
    put("f", "x\ny\nx\ny\n");
    fits("*** Update File: f\n@@\n x\n-y\n+z\n*** End of File\n", "M f\n");
    has("f", "x\ny\nx\nz\n");
    fits("*** Update File: f\n@@\n+end\n*** End of File\n*** Add File: g\n+g\n", "M f\nA g\n");
    has("f", "x\ny\nx\nz\nend\n");
}

static void test_fuzz(void **state)
{
    (void)state;
    put("f", "if (a) {  \n\tcall(\xE2\x80\x9Cx\xE2\x80\x9D);\n    b \xE2\x80\x94 c\n}\n");
    /* White space and punctuation of context are forgiven, and kept as the file has them. */
    fits("*** Update File: f\n@@\n if (a) {\n-    call(\"x\");\n+    call(1);\n b - c\n }\n", "M f\n");
    has("f", "if (a) {  \n    call(1);\n    b \xE2\x80\x94 c\n}\n");
    put("f", "a\n\nb\n");
    fits("*** Update File: f\n@@\n a\n\n-b\n+c\n\n*** Add File: g\n+x\n\n", "M f\nA g\n"); /* blanks lost, blanks added */
    has("f", "a\n\nc\n");
    has("g", "x\n");
    /* The exact place wins over one that is only alike. */
    put("f", "  x\nx\n");
    fits("*** Update File: f\n@@\n-x\n+y\n", "M f\n");
    has("f", "  x\ny\n");
}

static void test_line_ends(void **state)
{
    (void)state;
    put("crlf", "a\r\nb\r\nc\r\n");
    fits("*** Update File: crlf\n@@\n a\n-b\n+B\n+B2\n c\n", "M crlf\n");
    has("crlf", "a\r\nB\r\nB2\r\nc\r\n");
    put("crlf", "a\r\nb\r\n");
    assert_int_equal(apply_as("*** Begin Patch\r\n*** Update File: crlf\r\n@@\r\n a\r\n-b\r\n+c\r\n*** End Patch\r\n", NULL), 0);
    has("crlf", "a\r\nc\r\n");
    put("lf", "a\nb\n");
    assert_int_equal(apply_as("*** Begin Patch\r\n*** Update File: lf\r\n@@\r\n a\r\n-b\r\n+c\r\n*** End Patch\r\n", NULL), 0);
    has("lf", "a\nc\n");
    put("none", "a\nb");
    fits("*** Update File: none\n@@\n-a\n+A\n", "M none\n");
    has("none", "A\nb"); /* what is not touched stays */
    fits("*** Update File: none\n@@\n b\n+c\n", "M none\n");
    has("none", "A\nb\nc\n");
    put("empty", "");
    fits("*** Update File: empty\n@@\n+x\n", "M empty\n");
    has("empty", "x\n");
    put("mixed", "a\r\nb\nc\n");
    fits("*** Update File: mixed\n@@\n a\n-b\n+B\n", "M mixed\n");
    has("mixed", "a\r\nB\nc\n");
}

static void test_not_utf8(void **state)
{
    (void)state;
    put("f", "caf\xE9\nb\n");
    fits("*** Update File: f\n@@\n-b\n+c\n", "M f\n");
    has("f", "caf\xE9\nc\n");
    put_bytes("bin", STR("a\0b\n"));
    fails("*** Update File: bin\n@@\n-b\n+c\n", "bin: this is a binary file");
    fits("*** Update File: bin\n*** Move to: bin2\n", "R bin -> bin2\n");
    CLEANUP(buf_free) struct buf b = {0};
    assert_int_equal(record_read_file(AT_FDCWD, "bin2", 100, &b), 0);
    assert_int_equal(b.n, 4);
}

/* ---- refusals ---- */

static void test_all_or_nothing(void **state)
{
    (void)state;
    put("a", "1\n");
    put("b", "2\n");
    fails("*** Add File: n/new\n+x\n*** Update File: a\n@@\n-1\n+one\n*** Update File: b\n@@\n-2\n+two\n@@\n-three\n+3\n*** Delete File: a\n",
          "b: hunk 2 of 2 (line 12 of the patch) does not fit");
    has("a", "1\n");
    has("b", "2\n");
    has_not("n");
    assert_int_equal(entries("."), 2);
}

static void test_reasons(void **state)
{
    (void)state;
    put("f", "int main(void)\n{\n    return 0;\n}\n");
    fails("*** Update File: f\n@@\n int main(void)\n {\n-    return 1;\n+    return 2;\n }\n",
          "The nearest place is at line 1 (3 of 4 lines alike); line 3 differs:\n"
          "  the patch has:     return 1;\n  the file has:      return 0;");
    fails("*** Update File: f\n@@\n-wholly\n-other\n+x\n", "None of these lines is in the file.");
    fails("*** Update File: f\n", "an update has no hunk");
    fails("*** Update File: f\n@@\n", "a hunk has no lines");
    fails("*** Update File: f\n@@\nno sign\n", "must begin with a blank (context), '-' or '+'");
    fails("*** Add File: g\nno plus\n", "must begin with '+'");
    fails("*** Rename File: g\n", "expected `*** Add File: PATH`");
    fails("*** Add File:\n+x\n", "the header needs a path");
    fails("", "it changes no file");
    assert_int_equal(apply_as("nothing at all", NULL), -1);
    assert_non_null(strstr(error.p, "no line `*** Begin Patch`"));
    assert_int_equal(apply_as("*** Begin Patch\n*** Add File: x\n+y\n", NULL), -1);
    assert_non_null(strstr(error.p, "was it cut off?"));
    has_not("x");
    assert_int_equal(apply_as("", NULL), -1);
}

static void test_habits(void **state)
{
    (void)state;
    put("f", "a\n");
    assert_int_equal(apply_as("apply_patch <<'EOF'\n\n*** Begin Patch\n*** Update File: f\n@@\n-a\n+b\n*** End Patch\nEOF\n", NULL), 0);
    has("f", "b\n");
    assert_int_equal(apply_as("```\n  *** Begin Patch  \n *** update file:   f  \n@@\n-b\n+c\n *** End Patch \n```", NULL), 0);
    has("f", "c\n");
    assert_int_equal(apply_as("*** Begin Patch\n*** Update File: f\n@@\n-c\n+d\n*** End Patch", NULL), 0);
    has("f", "d\n");
}

/* A place that cannot be written, found only when all else is ready. */
static void test_unwritable(void **state)
{
    (void)state;
    put("a", "1\n");
    put("file", "x\n");
    fails("*** Update File: a\n@@\n-1\n+2\n*** Add File: file/below\n+x\n", "file/below");
    has("a", "1\n");
    assert_int_equal(entries("."), 2);
    if (geteuid() == 0)
        return; /* root may write everywhere */
    mkdir("ro", 0500);
    fails("*** Update File: a\n@@\n-1\n+2\n*** Add File: ro/x\n+x\n", "Permission denied");
    has("a", "1\n");
}

/* ---- recovery ---- */

#define MANIFEST "manifest"

static enum patch_recovered recover(void)
{
    buf_clear(&report);
    return patch_recover(MANIFEST, &report);
}

struct made {
    const char *path, *temp, *backup, *pre, *post;
};

/* The manifest of a patch that was cut short, as patch_commit.c would have left it. */
static void put_manifest(const struct made *changes, size_t n, bool ready)
{
    CLEANUP(buf_free) struct buf b = {0};
    assert_true(sodium_init() >= 0);
    for (size_t i = 0; i < n; i++) {
        const char *names[] = {changes[i].path, changes[i].temp, changes[i].backup};
        const char *fields[] = {"path", "temp", "backup"};
        size_t mark = pack_open(&b, "change");
        for (size_t k = 0; k < 3; k++) {
            char path[200];
            snprintf(path, sizeof path, "%s/%s", folder, names[k] ? names[k] : "");
            if (names[k])
                pack_str(&b, fields[k], str_of(path));
        }
        char hash[PATCH_HASH_SIZE];
        if (changes[i].pre) {
            patch_hash(str_of(changes[i].pre), hash);
            pack_str(&b, "pre", str_n(hash, sizeof hash));
        }
        if (changes[i].post) {
            patch_hash(str_of(changes[i].post), hash);
            pack_str(&b, "post", str_n(hash, sizeof hash));
        }
        char line[64];
        snprintf(line, sizeof line, "%c %s\n", !changes[i].pre ? 'A' : !changes[i].post ? 'D' : 'M', changes[i].path);
        pack_str(&b, "line", str_of(line));
        pack_close(&b, mark);
    }
    if (ready)
        pack_i64(&b, "ready", 1);
    put_bytes(MANIFEST, buf_view(&b));
}

static const struct made changes[] = {
    {"a", ".a.agentd-0123456789abcdef.new", ".a.agentd-0123456789abcdef.old", "old a", "new a"},
    {"b", NULL, ".b.agentd-0123456789abcdef.old", "old b", NULL},
    {"c", ".c.agentd-0123456789abcdef.new", NULL, NULL, "new c"},
};

/* `placed` of the three changes were made before the process died. */
static void cut_short(size_t placed, bool ready)
{
    put_manifest(changes, 3, ready);
    put(".a.agentd-0123456789abcdef.old", "old a");
    put(".b.agentd-0123456789abcdef.old", "old b");
    put("a", placed > 0 ? "new a" : "old a");
    put("b", "old b");
    if (placed == 0)
        put(".a.agentd-0123456789abcdef.new", "new a");
    if (placed > 1)
        unlink("b");
    if (placed > 2)
        put("c", "new c");
    else
        put(".c.agentd-0123456789abcdef.new", "new c");
}

static void is_finished(void)
{
    assert_int_equal(recover(), PATCH_FINISHED);
    assert_string_equal(report.p, "M a\nD b\nA c\n"); /* as it would have been reported */
    has("a", "new a");
    has_not("b");
    has("c", "new c");
    assert_int_equal(entries("."), 3);
    unlink("c");
}

static void is_undone(void)
{
    assert_int_equal(recover(), PATCH_UNDONE);
    assert_string_equal(buf_cstr(&report), "");
    has("a", "old a");
    has("b", "old b");
    has_not("c");
    assert_int_equal(entries("."), 3);
}

static void test_recover(void **state)
{
    (void)state;
    for (size_t placed = 0; placed <= 3; placed++) {
        cut_short(placed, true);
        is_finished();
    }
    cut_short(0, false); /* died while it prepared */
    is_undone();
    cut_short(0, false);
    unlink(".c.agentd-0123456789abcdef.new"); /* not even all temporaries were there */
    is_undone();
    cut_short(2, true);
    put(".c.agentd-0123456789abcdef.new", "torn");
    is_undone();
    is_undone(); /* harmless to repeat */
}

/* Whatever became of the files since is their owner's. */
static void test_recover_after_others(void **state)
{
    (void)state;
    cut_short(2, true);
    assert_int_equal(recover(), PATCH_FINISHED);
    put("a", "edited since");
    buf_clear(&report);
    assert_int_equal(recover(), PATCH_FINISHED);
    has("a", "edited since");
    has("c", "new c");
    unlink("c");
    cut_short(2, true);
    put(".c.agentd-0123456789abcdef.new", "torn");
    assert_int_equal(recover(), PATCH_UNDONE);
    put("b", "edited since");
    put("c", "new c"); /* somebody's own idea, word for word */
    buf_clear(&report);
    assert_int_equal(recover(), PATCH_UNDONE);
    has("b", "edited since");
    has("c", "new c");
    unlink("c");
}

static void test_recover_conflict(void **state)
{
    (void)state;
    cut_short(1, true);
    put("b", "somebody else's");
    assert_int_equal(recover(), PATCH_CONFLICT);
    assert_non_null(strstr(report.p, "changed by somebody else, left alone"));
    has("b", "somebody else's");
    has("a", "old a"); /* the rest is as before */
    unlink(MANIFEST);
    assert_int_equal(recover(), PATCH_CONFLICT);
}

/* The power went before the manifest was synced, and a name in it is cut off: it is then that of somebody else's file. */
static void test_recover_torn(void **state)
{
    (void)state;
    static const struct made torn[] = {{"a", ".a", ".a.agentd-0", "old a", "new a"}};
    put_manifest(torn, 1, false);
    put("a", "old a");
    put(".a", "somebody else's");
    put(".a.agentd-0", "somebody else's");
    assert_int_equal(recover(), PATCH_UNDONE);
    has(".a", "somebody else's");
    has(".a.agentd-0", "somebody else's");
    has("a", "old a");
    unlink(".a");
    unlink(".a.agentd-0");
}

/* Its last mark finds no room: what is in place stays in place, and that it is not sure is said. */
static void test_manifest_without_room_for_its_end(void **state)
{
    (void)state;
    static const char patch[] = "*** Begin Patch\n*** Update File: a\n@@\n-one\n+two\n*** Add File: new/b\n+b\n*** Delete File: c\n*** End Patch\n";
    struct rlimit old, small;
    struct stat st;
    signal(SIGXFSZ, SIG_IGN);
    for (int cut = 0; cut < 2; cut++) {
        put("a", "one\n");
        put("c", "c\n");
        if (cut) {
            assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
            small = (struct rlimit){.rlim_cur = (rlim_t)st.st_size - 1, .rlim_max = old.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        }
        int result = apply_as(patch, MANIFEST);
        if (cut)
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(result, 0);
        has("a", "two\n");
        has("new/b", "b\n");
        has_not("c");
        assert_int_equal(strstr(buf_cstr(&report), "did not confirm") != NULL, cut);
        assert_int_equal(stat(MANIFEST, &st), 0);
        buf_clear(&report);
        assert_int_equal(patch_recover(MANIFEST, &report), PATCH_FINISHED);
        assert_int_equal(entries("."), 3); /* a, new, manifest */
        assert_int_equal(unlink(MANIFEST) | unlink("new/b") | rmdir("new"), 0);
    }
}

static void test_manifest_done(void **state)
{
    (void)state;
    put("f", "a\n");
    assert_int_equal(apply_as("*** Begin Patch\n*** Update File: f\n@@\n-a\n+b\n*** Add File: d/g\n+g\n*** End Patch\n", MANIFEST), 0);
    has("f", "b\n");
    put("f", "and edited since\n");
    assert_int_equal(recover(), PATCH_FINISHED);
    has("f", "and edited since\n");
    has("d/g", "g\n");
    assert_int_equal(entries("."), 3);
    /* A refusal leaves no manifest that a recovery could take for a cut. */
    unlink(MANIFEST);
    assert_int_equal(apply_as("*** Begin Patch\n*** Update File: f\n@@\n-zzz\n+b\n*** End Patch\n", MANIFEST), -1);
    has_not(MANIFEST);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_add),       CASE(test_delete),    CASE(test_move),     CASE(test_mode_and_links),
        CASE(test_hunks),     CASE(test_anchors),   CASE(test_end_of_file), CASE(test_fuzz),
        CASE(test_line_ends), CASE(test_not_utf8),  CASE(test_all_or_nothing), CASE(test_reasons),
        CASE(test_habits),    CASE(test_unwritable), CASE(test_recover), CASE(test_recover_after_others), CASE(test_recover_conflict), CASE(test_recover_torn),
        CASE(test_manifest_without_room_for_its_end),
        CASE(test_manifest_done),
    };
    return cmocka_run_group_tests_name("patch", tests, NULL, NULL);
}
