/* What the files of the interposer share: interpose.c says what it is for, and reads the environment. place.c knows which files are ours,
 * log.c keeps the record of them, fault.c says which call fails. The others are the calls themselves: open.c, write.c, name.c, spawn.c. */
#pragma once

#undef _FILE_OFFSET_BITS /* or the C library's open is its open64, and only one of them could be replaced */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Only the calls that are replaced may be found by the program and its libraries. */
#pragma GCC visibility push(hidden)

#define PATH_ROOM 4096

enum op {
    OP_CREATE = 1, /* folder, name, file, mode with its type */
    OP_LINK,       /* folder, name, file */
    OP_RENAME,     /* folder, name, other folder, other name */
    OP_UNLINK,     /* folder, name; folders too */
    OP_WRITE,      /* file, path, at, data; symlinks: their target */
    OP_TRUNCATE,   /* file, path, size */
    OP_ALLOCATE,   /* file, path, least size */
    OP_SYNC_BEGIN, /* file, path */
    OP_SYNC,       /* file, path: all that was recorded before its begin lasts */
    OP_SEND,       /* socket, data */
    OP_SPAWN,      /* path of the program */
    OP_OPEN,       /* file, path */
    OP_READ,       /* file, path */
    OP_MKDIR,      /* only a name for faults: it is recorded as OP_CREATE */
};

/* What the environment asks for. */
struct asked {
    const char *boot_id; /* NULL: the machine's own */
    bool census;
    long sync_us;     /* negative: a sync reaches the disk */
    char program[32]; /* the name of this one */
};

extern struct asked asked;

void __attribute__((noreturn)) give_up(const char *why);

/* Sets errno. Returns -1. */
static inline int failed(int error)
{
    errno = error;
    return -1;
}

/* ---- the log (log.c) ---- */

/* Little endian; all numbers are followed by name, name2 and data, then zeros up to a multiple of 8. */
struct record {
    uint32_t bytes;
    uint8_t op, program; /* program: its letter, see program_letter() */
    uint16_t unused;
    uint32_t pid, name_n, name2_n, data_n;
    uint64_t file, file2;
    int64_t at;
};

struct log {
    char magic[8];
    uint64_t room, used;
    uint64_t matched, fired; /* calls that AGENTD_IO_FAIL fits; calls that were made to fail */
    uint64_t die;            /* pid */
    uint64_t lifted;         /* the test puts 1: no faults any more */
    uint64_t unused;
    pthread_mutex_t lock;
};

extern struct log *log_map; /* NULL: nothing is ours, and nothing is recorded */

void log_begin(const char *path);

/* A call and its record are one between these two. errno stays. */
void log_lock(void);
void log_unlock(void);

/* Under the lock. Fills in bytes, program, pid and the four lengths. The names may be NULL; data_n bytes come from as many parts as it takes. */
void log_put(struct record r, const char *name, const char *name2, const struct iovec *data, size_t data_n);

/* 'd' daemon, 'r' runner, 't' tool, '?' */
uint8_t program_letter(void);

/* ---- what is below the root (place.c) ---- */

struct place {
    struct stat st;
    char path[PATH_ROOM]; /* below the root, which is `.` */
};

/* The folder and the last part of a path. */
struct entry {
    int folder; /* O_PATH; -1: none of ours */
    uint64_t file;
    char name[256], path[PATH_ROOM];
};

/* Absolute, without links; kept. NULL: nothing is ours. */
void place_begin(const char *path);

/* False: not a file or folder of ours. */
bool place_find(int fd, struct place *ret);

/* True: below the root, whether it exists or not; ends with entry_end(), which leaves errno alone. */
bool entry_find(int at, const char *path, struct entry *ret);
void entry_end(struct entry *e);
bool entry_stat(const struct entry *e, struct stat *ret);

/* ---- faults (fault.c) ---- */

#define SHORT (-1)

/* `text`: AGENTD_IO_FAIL. After log_begin(), without which none is armed. */
void fault_begin(const char *text);
bool fault_armed(void);

/* Under the lock. 0, an errno or SHORT. */
int fault_at(enum op op, const char *path);

/* ---- programs (spawn.c) ---- */

/* Keeps what programs of ours are given in addition, whatever environment they get. */
void spawn_begin(char *const env[]);

#pragma GCC visibility pop
