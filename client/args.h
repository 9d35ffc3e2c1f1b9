#pragma once
/* The command line, by the tables that the schema makes (proto/cli.h): finds the command, its options and its arguments. It
 * knows nothing of what they mean. */
#include "proto/cli.h"

#include "daemon/base/buf.h"

#define ARGS_OPTIONS_MAX 24
#define ARGS_MAX 4

struct args {
    const struct cli_command *command; /* NULL: only --help or --version was given */
    const char *help;                  /* not NULL: show this text instead of running */
    bool version;
    const char *options[ARGS_OPTIONS_MAX]; /* the common ones, then the command's; NULL: not given; "" for those without value */
    const char *args[ARGS_MAX];
    size_t args_n;
};

/* 0, or -1 with a sentence that names what is wrong, and the nearest thing that is right. */
int args_parse(int argc, char **argv, struct args *ret, struct buf *error);

/* The value of an option of this command ("" if it takes none), or NULL. The name must be in the tables. */
const char *args_option(const struct args *a, const char *name);
static inline bool args_has(const struct args *a, const char *name)
{
    return args_option(a, name) != NULL;
}
