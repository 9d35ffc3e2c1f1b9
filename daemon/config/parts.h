#pragma once
/* The configuration's own parts, for its `.c` files only. */
#include "daemon/config/config.h"

#define CONFIG_FILE_BYTES_MAX 1048576
#define CONFIG_NAME_BYTES_MAX 64
#define CONFIG_TEXT_BYTES_MAX 4096
#define CONFIG_KEY_BYTES_MAX 65536

struct config *config_new(void);
struct config_model *config_add_model(struct config *c, const char *name);
struct config_provider *config_add_provider(struct config *c, const char *name);

/* format.c: reads the text of a file, called `file` in errors, into a new config. 0, or -1 with `file:line:
 * sentence`. */
int config_read(const char *file, struct str text, struct config *config, struct buf *error);

/* environment.c: a configuration for a user who wrote no file; `path` is where one would be looked for. */
int config_from_environment(const char *path, struct config **ret, struct buf *error);

/* url.c: checks a base URL and returns it without trailing slashes. NULL and a sentence that does not quote
 * it. */
char *config_base_url(const char *text, struct buf *error);

/* key.c: whether the text names a key as it should: `env:NAME` or `file:PATH`. 0, or -1 and a sentence that
 * does not quote it: what stands there may be the key itself. */
int config_key_check(const char *text, struct buf *error);
/* Warns in the log when a key's file can be read by others. */
void config_key_warn(const struct config_provider *p);

/* number.c: a whole number of decimal digits without sign, leading zeros or separators. 0 or -1. */
int config_whole(const char *text, int64_t *ret);
/* USD per million tokens (`1.75`) as nano-USD per token (1750), exactly. 0, or -1 and a sentence. */
int config_price(const char *text, int64_t *ret, struct buf *error);
