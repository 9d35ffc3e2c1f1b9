#include "blob.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/mem.h"
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOB_NAME_SIZE (2 * BLOB_HASH_SIZE + 1)
#define BLOB_PARTIAL "partial" /* the one file that is being written: there is one writer */

static void blob_name(const uint8_t hash[BLOB_HASH_SIZE], char ret[BLOB_NAME_SIZE])
{
    sodium_bin2hex(ret, BLOB_NAME_SIZE, hash, BLOB_HASH_SIZE);
}

static void blob_hash(struct str bytes, uint8_t ret[BLOB_HASH_SIZE])
{
    crypto_generichash(ret, BLOB_HASH_SIZE, (const unsigned char *)bytes.p, bytes.n, NULL, 0);
}

int blobs_open(struct blobs *b, int state_folder)
{
    int rc = files_open_folder(state_folder, "blobs", &b->folder);
    if (rc)
        return rc;
    if (unlinkat(b->folder, BLOB_PARTIAL, 0) < 0 && errno != ENOENT)
        rc = -errno;
    if (rc)
        blobs_close(b);
    return rc;
}

void blobs_open_read(struct blobs *b, const char *state_dir)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/blobs", state_dir);
    b->folder = open(buf_cstr(&path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void blobs_close(struct blobs *b)
{
    close(b->folder);
    b->folder = -1;
}

/* A file of that name may be there from an earlier write. It is compared, not trusted: a damaged one would
 * otherwise stay damaged for ever. */
static bool blob_same(const struct blobs *b, const char *name, struct str bytes)
{
    int fd = openat(b->folder, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct stat st;
    bool same = fstat(fd, &st) == 0 && st.st_size == (off_t)bytes.n;
    char piece[16384];
    for (size_t at = 0; same && at < bytes.n;) {
        size_t n = bytes.n - at < sizeof piece ? bytes.n - at : sizeof piece;
        same = files_read_all(fd, piece, n) == 0 && memcmp(piece, bytes.p + at, n) == 0;
        at += n;
    }
    close(fd);
    return same;
}

/* Content first, then the name: what has the name is whole, whenever the power goes. */
static int blob_write(const struct blobs *b, const char *name, struct str bytes)
{
    int fd = openat(b->folder, BLOB_PARTIAL, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = files_write_all(fd, bytes);
    FAILPOINT("store.blob.written");
    if (!rc && fdatasync(fd) < 0)
        rc = -errno;
    close(fd);
    FAILPOINT("store.blob.synced");
    if (!rc && renameat(b->folder, BLOB_PARTIAL, b->folder, name) < 0)
        rc = -errno;
    FAILPOINT("store.blob.renamed");
    if (rc)
        unlinkat(b->folder, BLOB_PARTIAL, 0);
    return rc;
}

int blobs_put(struct blobs *b, struct str bytes, uint8_t ret_hash[BLOB_HASH_SIZE])
{
    char name[BLOB_NAME_SIZE];
    if (bytes.n > BLOB_BYTES_MAX)
        return -EFBIG;
    blob_hash(bytes, ret_hash);
    blob_name(ret_hash, name);
    if (blob_same(b, name, bytes))
        return 0;
    int rc = blob_write(b, name, bytes);
    b->bytes += rc ? 0 : (int64_t)bytes.n;
    return rc;
}

int blobs_sync(const struct blobs *b)
{
    int rc = files_sync_folder(b->folder);
    FAILPOINT("store.blob.folder_synced");
    return rc;
}

int blobs_read(const struct blobs *b, const uint8_t hash[BLOB_HASH_SIZE], int64_t bytes, struct buf *ret)
{
    char name[BLOB_NAME_SIZE];
    blob_name(hash, name);
    if (bytes < 0 || bytes > BLOB_BYTES_MAX)
        return -EBADMSG;
    int fd = openat(b->folder, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat st;
    int rc = fstat(fd, &st) < 0 ? -errno : st.st_size != bytes ? -EBADMSG : 0;
    if (!rc) {
        char *p = buf_reserve(ret, (size_t)bytes);
        rc = files_read_all(fd, p, (size_t)bytes);
        uint8_t found[BLOB_HASH_SIZE];
        blob_hash(str_n(p, (size_t)bytes), found);
        if (!rc && memcmp(found, hash, BLOB_HASH_SIZE) != 0)
            rc = -EBADMSG;
    }
    close(fd);
    if (!rc) {
        ret->n += (size_t)bytes;
        ret->p[ret->n] = 0;
    }
    return rc;
}

bool blobs_present(const struct blobs *b, const uint8_t hash[BLOB_HASH_SIZE], int64_t bytes)
{
    char name[BLOB_NAME_SIZE];
    struct stat st;
    blob_name(hash, name);
    return fstatat(b->folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           st.st_size == bytes;
}

void blobs_hold(struct blobs *b)
{
    atomic_fetch_add(&b->holders, 1);
}

void blobs_release(struct blobs *b)
{
    atomic_fetch_sub(&b->holders, 1);
}

bool blobs_removable(const struct blobs *b)
{
    return atomic_load(&b->holders) == 0;
}

int blobs_remove(struct blobs *b, const uint8_t hash[BLOB_HASH_SIZE])
{
    char name[BLOB_NAME_SIZE];
    struct stat st;
    blob_name(hash, name);
    if (fstatat(b->folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || unlinkat(b->folder, name, 0) < 0)
        return errno == ENOENT ? 0 : -errno;
    b->bytes -= st.st_size;
    return 0;
}
