#pragma once
/* The configuration: YAML by libyaml, strict (an unknown key or a value of the wrong shape is an error with
 * file and line), or made from the environment where there is no file. Secrets are named, never written:
 * `env:NAME` or `file:PATH`. Calls: base, libyaml. */
#include "daemon/base/buf.h"
#include "daemon/base/limits.h"

#include <stdbool.h>

struct config_provider {
    char *name;
    char *wire;     /* openai-responses, openai-chat */
    char *base_url; /* no trailing slash */
    char *key;      /* "env:NAME", "file:PATH", or NULL: no key is sent */
};

struct config_model {
    char *name; /* in the configuration */
    char *provider;
    char *model;                                           /* the provider's name */
    int64_t context_window, max_output_tokens;             /* 0: not given */
    int64_t price_input, price_cached_input, price_output; /* nano-USD a token */
};

struct config {
    char *path;   /* NULL: made from the environment */
    char *model;  /* the default's name; NULL: none is configured */
    char *advice; /* where none is configured: a sentence that says what to do; else NULL */
    char *policy;
    struct config_model *models;
    size_t models_n;
    struct config_provider *providers;
    size_t providers_n;
    struct limits limits;
};

/* Reads `path`; if `path` is NULL, $AGENTD_CONFIG, else the XDG path if it exists, else the environment
 * (OPENAI_API_KEY, OPENAI_BASE_URL ...). 0, or -1 with "file:line: what is wrong and what to do". */
int config_load(const char *path, struct config **ret, struct buf *error);
void config_free(struct config *c);

/* NULL: no such model. An absent name is the default. */
const struct config_model *config_model_find(const struct config *c, struct str name);
const struct config_provider *config_provider_find(const struct config *c, const char *name);
/* Resolves a provider's key now. 0 and the key (empty if the provider has none; to be wiped by the caller),
 * or -1 and a sentence that names the variable or file, never its content. */
int config_key(const struct config_provider *p, struct buf *ret, struct buf *error);
