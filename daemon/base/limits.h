#pragma once
/* Every bound of the daemon: name, default, least, most, what it bounds. The configuration sets them by name under
 * `limits:`; all code reads them from one `struct limits`. */
#include <stdint.h>

#define LIMITS(X)                                                                                            \
    X(frame_bytes_max, 4194304, 65536, 67108864, "one message on the socket")                                \
    X(depth_max, 64, 16, 512, "nesting of JSON from a client or a provider")                                 \
    X(clients_max, 256, 8, 4096, "connected clients")                                                        \
    X(client_queue_bytes_max, 262144, 65536, 16777216, "bytes waiting for one client that does not read")    \
    X(client_requests_max, 64, 1, 1024, "requests of one client that are not answered yet")                  \
    X(subscriptions_max, 64, 1, 1024, "subscriptions of one client")                                         \
    X(tasks_running_max, 1000, 1, 100000, "tasks at work at once; more are queued")                          \
    X(tasks_live_max, 10000, 1, 1000000, "tasks that are not final")                                         \
    X(steers_pending_max, 100, 1, 10000, "steers of one task that wait to be delivered")                     \
    X(calls_per_step_max, 64, 1, 1024, "tool calls in one response")                                         \
    X(runs_per_task_max, 64, 1, 1024, "living processes of one task")                                        \
    X(run_output_bytes_max, 268435456, 65536, 17179869184, "output kept of one run; more is counted only")   \
    X(run_idle_ms_max, 3600000, 1000, 2592000000, "life of background runs after their task has ended")      \
    X(tool_output_bytes, 40000, 1024, 1048576, "output that a call returns when it asks for no limit")       \
    X(tool_output_bytes_max, 262144, 1024, 4194304, "output that a call can ask for")                        \
    X(yield_ms, 10000, 250, 3600000, "how long a call waits for its process when it asks for nothing")       \
    X(yield_ms_max, 1800000, 250, 86400000, "how long a call can wait for its process")                      \
    X(wait_ms_max, 2592000000, 1000, 315360000000, "how long a wait can be told to last")                     \
    X(waits_per_task_max, 16, 1, 64, "waits of one task at once")                                            \
    X(wait_conditions_max, 8, 1, 32, "conditions of one wait")                                               \
    X(wait_path_bytes_max, 4096, 256, 65536, "path of a file that is waited for")                            \
    X(input_bytes_max, 1048576, 1024, 16777216, "bytes of one write_stdin")                                  \
    X(patch_bytes_max, 4194304, 1024, 67108864, "one patch")                                                 \
    X(image_bytes_max, 8388608, 1024, 67108864, "one image")                                                 \
    X(kill_grace_ms, 2000, 0, 600000, "between SIGTERM and SIGKILL")                                         \
    X(response_bytes_max, 33554432, 65536, 268435456, "one response of a model")                             \
    X(context_bytes_max, 67108864, 65536, 1073741824, "one request to a model")                              \
    X(transfers_max, 256, 1, 10000, "requests to models at once")                                            \
    X(connect_ms_max, 30000, 100, 600000, "connecting to a provider")                                        \
    X(stall_ms_max, 300000, 1000, 86400000, "a stream without progress")                                     \
    X(retry_ms_min, 500, 1, 3600000, "first back-off")                                                       \
    X(retry_ms_max, 60000, 1, 86400000, "longest back-off")                                                  \
    X(database_retry_ms, 1000, 10, 60000, "between attempts to commit while the disk is full")               \
    X(read_only_retry_ms, 600000, 1000, 86400000, "between attempts of a read-only daemon to write again")   \
    X(archive_after_ms, 604800000, 0, 315360000000, "from the end of a task to its compression; reads as before")\
    X(keep_ms, 0, 0, 3153600000000, "from the end of a task to its removal; 0: never for its age")           \
    X(storage_bytes_max, 17179869184, 16777216, 1125899906842624,                                            \
      "what is stored; above it tasks that ended first are compressed, then removed")

struct limits {
#define X(name, def, least, most, doc) int64_t name;
    LIMITS(X)
#undef X
};

static inline struct limits limits_default(void)
{
    return (struct limits){
#define X(name, def, least, most, doc) .name = def,
        LIMITS(X)
#undef X
    };
}
