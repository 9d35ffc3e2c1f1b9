#pragma once
/* agentd-tool apply-patch: the patch format that models know, applied all or nothing. Reading (patch_parse.c) and fitting hunks into
 * a text (patch_fit.c) are pure; patch_files.c computes every new content before anything is touched; patch_commit.c puts them in
 * place and takes them back if one fails; patch_recover.c does the same for a process that was killed half-way.
 * Calls: base, libsodium (BLAKE2b). */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define PATCH_OPS_MAX 1000
#define PATCH_FILE_BYTES_MAX (64 * 1024 * 1024)
#define PATCH_TOTAL_BYTES_MAX (256 * 1024 * 1024)
#define PATCH_HASH_SIZE 32

struct patch_line {
    char sign; /* ' ', '-' or '+' */
    struct str text;
};

struct patch_hunk {
    size_t number; /* of the patch's line that begins it, from 1 */
    struct str *anchors;
    size_t anchors_n;
    struct patch_line *lines;
    size_t lines_n;
    bool at_end; /* *** End of File */
};

enum patch_verb { PATCH_ADD, PATCH_DELETE, PATCH_UPDATE };

struct patch_op {
    enum patch_verb verb;
    struct str path, move_to; /* move_to absent: stays */
    struct patch_hunk *hunks; /* PATCH_UPDATE */
    size_t hunks_n;
    struct buf content; /* PATCH_ADD */
};

struct patch {
    struct patch_op *ops;
    size_t ops_n;
};

/* Views of `text`, which must live as long. -1: `error` says where and what. Free in both cases. */
int patch_parse(struct str text, struct patch *ret, struct buf *error);
void patch_free(struct patch *p);

/* The text after all hunks of `op`, appended to *ret. -1: `error` says which hunk does not fit, what it expects and what is there. */
int patch_fit(struct str content, const struct patch_op *op, struct buf *ret, struct buf *error);

/* One file and what becomes of it. */
struct patch_file {
    char *path;     /* absolute, links resolved */
    struct str name; /* as the patch wrote it */
    bool existed, exists;
    bool link; /* a symbolic link that is deleted as such */
    struct stat before;
    struct buf old, now;
    struct str moved_from; /* reported as a rename */
    bool moved_away;
};

struct patch_files {
    struct patch_file *p;
    size_t n;
    int64_t bytes;
};

enum { PATCH_E_HALF = 1 }; /* it could be neither finished nor taken back; `error` says which files, and where their old contents are */

/* Puts everything in place, or nothing. `manifest`: where to note what is under way, or NULL. 0 (with a sentence in `error` if the disk did
 * not confirm it); -1 with a sentence: nothing was changed; PATCH_E_HALF. */
int patch_commit(const struct patch_files *f, const char *manifest, struct buf *error);

/* The whole: parse, compute, commit; `report` gets a line for each file: A, M, D, R, or = where nothing changed. Returns and errors as
 * patch_commit(). */
int patch_apply(struct str text, const char *manifest, struct buf *report, struct buf *error);

enum patch_recovered { PATCH_FINISHED = 0, PATCH_UNDONE = 1, PATCH_CONFLICT = 2 };
/* `report`: as patch_apply(), if it is finished now; else a line for each file that could not be put as it should be, and why. */
enum patch_recovered patch_recover(const char *manifest, struct buf *report);

/* The line of the report about one file, or nothing where another one's line tells of it. */
void patch_put_line(const struct patch_file *f, struct buf *b);

/* Shared by commit and recovery: the manifest is a sequence of fields (pack.h): groups "change" {path, temp, backup, line, pre, post},
 * then "made" for each folder, then "ready" when every temporary is on disk, then "done"; or "undone" by who took it back
 * later. */
void patch_hash(struct str content, char ret[PATCH_HASH_SIZE]);
int patch_hash_file(const char *path, char ret[PATCH_HASH_SIZE]);
int patch_sync_parent(const char *path);
