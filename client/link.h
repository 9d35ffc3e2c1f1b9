#pragma once
/* The connection to the daemon: connects (and starts a daemon where that is allowed), calls, receives what it subscribed to. When
 * the connection is lost it makes a new one, sends an unanswered view or keyed change again, and resumes each subscription after
 * the last event that was handed out: its user sees no gap and no duplicate. One thread, blocking; it prints nothing and knows
 * no command. Calls: base, proto, start.h. */
#include <jansson.h>

#include "proto/cli.h"
#include "proto/types.h"

#include <signal.h>

struct link;

struct link_options {
    const char *client; /* the name that the daemon is told */
    const char *config, *state_dir, *socket; /* as given on the command line, or NULL */
    enum cli_start start;
    bool no_start;
    /* Set by the user's signal handler; every wait looks at it. `mask` is the signal mask while waiting (NULL: unchanged). */
    volatile sig_atomic_t *interrupted;
    const sigset_t *mask;
    /* Told, in a sentence, when the connection is lost and found again, and when events are awaited of a daemon that makes none. May be
     * NULL. */
    void (*talk)(const char *sentence);
};

/* The sentence is in link_error(). */
enum link_rc {
    LINK_OK = 0,
    LINK_TIMEOUT = 1, /* link_next() only: nothing came */
    LINK_INPUT = 2,   /* link_next() only: the other descriptor can be read */
    LINK_E_REMOTE = 3,     /* the daemon answered with an error: link_error_code(), link_error_hint() */
    LINK_E_NO_DAEMON = 4,  /* none runs, or it is another folder's */
    LINK_E_INTERRUPTED = 5,
    LINK_E_LOST = 6,       /* the connection was lost, and what was sent must not be sent again */
    LINK_E_BROKEN = 7,     /* the other side does not speak the protocol, or a place cannot be used */
};

#define LINK_FRAME_BYTES_MAX 134217728
#define LINK_QUEUE_BYTES_MAX 67108864
#define LINK_SUBSCRIPTIONS_MAX 64
#define LINK_INITIALIZE_MS 10000
#define LINK_RECONNECT_MS 60000

/* A result: parsed, and the text as it came. */
struct link_reply {
    json_t *json;
    struct str text;
    char *line;
};

/* A notification. `json` and `text` are its params; link_message_text() leaves out `subscription`. */
struct link_message {
    bool delta; /* else an event */
    int subscription;
    json_t *json;
    struct str text;
    char *line;
};

/* Finds the places; does not connect. *ret also on failure, so that link_error() says what is wrong. */
int link_new(const struct link_options *options, struct link **ret);
void link_free(struct link *l);

/* Absolute paths. */
const char *link_state_dir(const struct link *l);
const char *link_socket(const struct link *l);
const char *link_config(const struct link *l); /* NULL: none was named */

/* Connects, starting a daemon if that is allowed. Calling it first is optional. */
int link_open(struct link *l);
/* Connects, starting nothing; tries for so long. */
int link_find(struct link *l, int64_t ms);
/* After LINK_E_NO_DAEMON: whether there simply is none, as against one that may not be used. */
bool link_error_is_absence(const struct link *l);
/* `params` is the method's struct params_*. */
int link_call(struct link *l, enum method method, const void *params, struct link_reply *ret);
void link_reply_free(struct link_reply *r);

/* task NULL: all tasks. *ret names the subscription, also across connections. */
int link_subscribe(struct link *l, const char *task, int64_t after_seq, bool deltas, int *ret);
/* Waits for a notification, for `fd` (-1: none), or timeout_ms (-1: for ever). LINK_OK, LINK_INPUT, LINK_TIMEOUT or an error:
 * LINK_E_REMOTE says that a subscription has ended: with RPC_TASK_NOT_FOUND its task was removed, with RPC_STATE_UNREADABLE it
 * could not be read. */
int link_next(struct link *l, int fd, int64_t timeout_ms, struct link_message *ret);
void link_message_text(const struct link_message *m, struct buf *b);
void link_message_free(struct link_message *m);

/* Closes the connection without a word; the next call makes a new one. */
void link_close(struct link *l);
/* Waits until the daemon closes the connection. LINK_OK or LINK_TIMEOUT. */
int link_wait_closed(struct link *l, int64_t timeout_ms);

const char *link_error(const struct link *l);
const char *link_error_hint(const struct link *l); /* "" if there is none */
int link_error_code(const struct link *l);         /* enum rpc_error; 0 if the daemon said nothing */

/* A random key for a change, NUL-terminated. */
#define LINK_KEY_SIZE 27
void link_make_key(char ret[LINK_KEY_SIZE]);
int64_t link_now_ms(void); /* CLOCK_BOOTTIME */
