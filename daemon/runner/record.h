#pragma once
/* The small files that say what became of a run: `spec`, `start` and `exit` as values, written by one side and read by the
 * other. No policy: what follows from them is decided in daemon/tools/runs_probe.c. Calls: base, libc. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Stored, like enum run_program. */
enum run_spec_program { RUN_SPEC_SHELL = 1, RUN_SPEC_PATCH = 2, RUN_SPEC_IMAGE = 3 };

struct run_spec {
    int64_t program;
    struct str task, run;
    struct str payload;
    struct str workdir;
    struct str tool_path; /* agentd-tool */
    bool tty;
    int64_t columns, rows;
    int64_t output_bytes_max;
    int64_t input_bytes_max; /* that may wait for the process */
    int64_t patch_bytes_max, image_bytes_max;
    int64_t kill_grace_ms;
    int64_t files_max; /* RLIMIT_NOFILE (soft) of the tool; 0: as it is */
    int64_t umask;
    struct str env; /* a group: fields "e" */
};

void run_spec_put(struct buf *b, const struct run_spec *s);
/* Views of `bytes`. -1: damaged. */
int run_spec_get(struct str bytes, struct run_spec *ret);

struct run_mark { /* `start` */
    int64_t pid;  /* of the runner */
    int64_t wall_ms;
    struct str boot_id;
};

void run_mark_put(struct buf *b, const struct run_mark *m);
int run_mark_get(struct str bytes, struct run_mark *ret);

/* Stored. */
enum run_end { RUN_END_EXITED = 1, RUN_END_SIGNALED = 2, RUN_END_NOT_STARTED = 3 };

struct run_record { /* `exit` */
    int64_t end;
    int64_t code;   /* of RUN_END_EXITED */
    int64_t signal; /* of RUN_END_SIGNALED */
    bool killed;    /* the daemon had asked for its end */
    int64_t output_bytes, output_kept;
    int64_t wall_ms; /* when it started */
    int64_t duration_ms;
    int64_t cpu_us, memory_bytes;
    struct str boot_id;
    struct str detail;
};

/* With its CRC. */
void run_record_put(struct buf *b, const struct run_record *r);
/* -1: damaged, or half written. */
int run_record_get(struct str bytes, struct run_record *ret);

/* Reads what is left of a file, at most `max` bytes, into b. 0, or -1 with errno. */
int record_read(int fd, size_t max, struct buf *b);
/* Reads a whole file of at most `max` bytes into b. 0, or -1 with errno. */
int record_read_file(int dirfd, const char *name, size_t max, struct buf *b);
/* Writes all of it. 0, or -1 with errno. */
int record_write_all(int fd, struct str bytes);
int64_t record_wall_ms(void);
int64_t record_boot_ms(void);
/* The text of /proc/sys/kernel/random/boot_id, or "". */
void record_boot_id(char ret[40]);
