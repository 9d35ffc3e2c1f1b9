/* Which call fails, and how. */
#include "interpose.h"
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By number: what AGENTD_IO_FAIL calls them. */
static const char *const op_names[] = {"",         "create",     "link", "rename", "unlink", "write", "truncate",
                                       "allocate", "sync-begin", "sync", "send",   "spawn",  "open",  "read", "mkdir"};

static struct {
    char program[32], op[16], pattern[512];
    uint64_t nth;
    int error;
    bool on, armed;
} fail;

void fault_begin(const char *text)
{
    char error[16], mode[8];
    unsigned long nth;
    if (sscanf(text, "%31s %15s %511s %lu %15s %7s", fail.program, fail.op, fail.pattern, &nth, error, mode) != 6)
        give_up("interpose: AGENTD_IO_FAIL cannot be read\n");
    fail.nth = nth;
    fail.error = strcmp(error, "short") == 0 ? SHORT : atoi(error);
    fail.on = strcmp(mode, "on") == 0;
    fail.armed = log_map && strcmp(mode, "off") != 0;
}

bool fault_armed(void)
{
    return fail.armed;
}

static bool grows(enum op op)
{
    return op == OP_CREATE || op == OP_MKDIR || op == OP_LINK || op == OP_RENAME || op == OP_WRITE || op == OP_ALLOCATE;
}

static bool fits_now(enum op op, const char *path)
{
    if (log_map->fired && fail.on)
        return fail.error == SHORT ? op == OP_WRITE : fail.error == ENOSPC ? grows(op) : op != OP_READ && op != OP_OPEN;
    if (strcmp(fail.op, op_names[op]) != 0 || fnmatch(fail.pattern, path, 0) != 0)
        return false;
    return (strcmp(fail.program, "*") == 0 || strcmp(fail.program, asked.program) == 0) && ++log_map->matched == fail.nth;
}

int fault_at(enum op op, const char *path)
{
    if (!fail.armed || log_map->lifted || !fits_now(op, path))
        return 0;
    log_map->fired++;
    return fail.error;
}
