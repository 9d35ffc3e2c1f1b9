#pragma once
/* The vocabulary that the core shares with its edges: what a tool call asks for, what a model answered, how a run
 * ended. Values only. Strings are views that live as long as the input that carries them. */
#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/str.h"
#include "proto/types.h"

#define TASK_ID_SIZE 28 /* 't', a ULID, NUL */

/* What runs inside a run. Stored. */
enum run_program {
    RUN_PROGRAM_SHELL = 1, /* payload: a command line for /bin/sh (bash where there is one) -c */
    RUN_PROGRAM_PATCH = 2, /* payload: a patch; agentd-tool apply-patch reads it on stdin */
    RUN_PROGRAM_IMAGE = 3, /* payload: a path; agentd-tool view-image writes the image to stdout */
};

/* How a call is carried out. Stored. */
enum call_sort {
    CALL_SORT_ANSWER = 1, /* needs no process: the answer is known (update_plan, every refusal) */
    CALL_SORT_RUN = 2,    /* starts a run and waits for it, at most yield_ms */
    CALL_SORT_INPUT = 3,  /* input to a living run (or an empty poll), then waits at most yield_ms */
    CALL_SORT_WAIT = 4,   /* needs no process: answered when one of its conditions has come true */
};

/* What a wait can be for. Stored. */
enum condition_kind {
    CONDITION_TIME = 1,   /* delay_ms have passed */
    CONDITION_CLOCK = 2,  /* the wall clock says wall_ms, or more */
    CONDITION_RUN = 3,    /* a run has ended, whichever way */
    CONDITION_FILE = 4,   /* what is found at a path is no longer what its stamp says */
    CONDITION_ANSWER = 5, /* a person has said something */
    CONDITION_QUOTA = 6,  /* delay_ms have passed, after which a provider serves again */
};

/* What was found at a path, as far as a change of it can be told. */
struct file_stamp {
    bool exists; /* else the rest is 0 */
    int64_t size, mtime_ns, inode;
};

struct condition {
    enum condition_kind kind;
    int64_t delay_ms;
    int64_t wall_ms;
    int64_t run;
    struct str path; /* absolute */
    struct file_stamp stamp;   /* taken before the wait is committed: a change while nobody looks is noticed */
    struct clock_deadline at; /* of delay_ms, from the moment in which the wait began; not set before */
};

/* A tool call as tools_prepare() understood it. */
struct call_spec {
    struct str wire_id;   /* the provider's id for the call, returned with its output */
    struct str tool;      /* as the model named it */
    struct str arguments; /* JSON text on one line; a JSON string where the model sent no object */
    enum call_sort sort;

    struct str answer; /* CALL_SORT_ANSWER: what the model gets */
    bool is_error;
    const struct proto_plan_entry *plan; /* not NULL: the plan is replaced */
    size_t plan_n;

    enum run_program program; /* CALL_SORT_RUN */
    struct str command;       /* for people: one line where possible */
    struct str payload;
    struct str workdir; /* absolute */
    bool tty;

    const struct condition *conditions; /* CALL_SORT_WAIT: any of them ends it */
    size_t conditions_n;

    int64_t session; /* CALL_SORT_INPUT: the number of the run */
    struct str input; /* bytes; empty: only poll */

    int64_t yield_ms;
    int64_t output_bytes; /* how much output the answer may hold */
};

/* One part of a response, in the order in which the provider sent them. Each takes one item number. */
enum part_kind { PART_MESSAGE, PART_REASONING, PART_CALL };

struct model_part {
    enum part_kind kind;
    struct str text;      /* message, or summary of the reasoning */
    enum phase phase;     /* of a message */
    bool has_phase;       /* the provider said so; else the core decides: final if no call follows */
    struct call_spec call; /* PART_CALL */
};

struct model_response {
    const struct model_part *parts;
    size_t parts_n;
    const struct str *raw; /* the bytes that go into the context, in order, JSON values without separators */
    size_t raw_n;
    enum finish finish;
    struct proto_usage usage;
};

/* Why an attempt ended without a response. */
enum model_fault {
    MODEL_FAULT_RATE_LIMIT,  /* 429 */
    MODEL_FAULT_SERVER,      /* 5xx, an error event, overloaded */
    MODEL_FAULT_NETWORK,     /* refused, reset, DNS, TLS */
    MODEL_FAULT_CUT,         /* the stream ended early */
    MODEL_FAULT_STALL,       /* no progress */
    MODEL_FAULT_MALFORMED,   /* the stream cannot be read */
    MODEL_FAULT_CREDENTIALS, /* 401, 403, or the key does not resolve */
    MODEL_FAULT_REQUEST,     /* another 4xx: sending it again does not help */
};

/* How a run ended: from its exit record, or from what a probe found. */
struct run_exit {
    enum run_outcome outcome;
    bool has_exit_code, has_signal;
    int64_t exit_code, signal;
    int64_t output_bytes; /* all that it wrote, kept or not */
    int64_t duration_ms;
    struct str detail; /* absent, or one sentence */
};

/* What a recovering daemon found of a run. */
enum run_probe {
    RUN_PROBE_NOT_STARTED, /* no start mark, and the row is of this boot: it may be started */
    RUN_PROBE_ALIVE,       /* its lock is held: attach */
    RUN_PROBE_ENDED,       /* a valid exit record, or in doubt: see the run_exit */
};

/* A piece of output made fit for the model: valid UTF-8, head and tail with a line that counts what was left out. */
struct run_output {
    struct str text;
    int64_t end;     /* offset behind the last raw byte that is covered */
    int64_t covered; /* raw bytes covered, from the offset asked for */
    struct proto_image image; /* RUN_PROGRAM_IMAGE that succeeded */
    bool has_image;
    struct str image_data; /* its bytes */
};

/* Something that is appended to the context; the model edge renders it for the task's wire. */
enum context_kind {
    CONTEXT_RAW,         /* bytes of a response, as received */
    CONTEXT_USER,        /* text of a user: the prompt, a steer */
    CONTEXT_NOTE,        /* text of agentd for the model */
    CONTEXT_ASSISTANT,   /* partial text of a cut stream */
    CONTEXT_TOOL_OUTPUT, /* wire_id, text */
    CONTEXT_IMAGE,       /* an image, shown as input of the user: text holds its bytes, media_type its type */
};

struct context_item {
    enum context_kind kind;
    struct str text;
    struct str wire_id;
    struct str tool;
    struct str media_type;
    int64_t run; /* CONTEXT_IMAGE as the core plans it: the run that printed the image; the world reads its bytes into text */
    bool is_error;
};
