#include "parts.h"

#include "daemon/base/mem.h"

#include <stdlib.h>

/* No file: a key in the environment is enough to start with. The names are those that OpenAI's own SDK reads.
 */
#define KEY_NAME "OPENAI_API_KEY"
#define BASE_URL_NAME "OPENAI_BASE_URL"
#define MODEL_NAME "OPENAI_MODEL"
#define BASE_URL_DEFAULT "https://api.openai.com/v1"
#define MODEL_DEFAULT "gpt-5.3-codex"

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

static char *advice(const char *path)
{
    CLEANUP(buf_free) struct buf b = {0};
    if (env("ANTHROPIC_API_KEY"))
        buf_puts(&b, "ANTHROPIC_API_KEY is set, but this version does not speak Anthropic's wire yet; ");
    else
        buf_puts(&b, "no model is configured; ");
    buf_printf(&b,
               "set " KEY_NAME
               ", or describe a provider and a model in %s (see agentd-config(5)), or try agentd-rehearsal, "
               "which calls no model",
               path);
    return buf_take(&b, NULL);
}

int config_from_environment(const char *path, struct config **ret, struct buf *error)
{
    struct config *c = config_new();
    if (!env(KEY_NAME)) {
        c->advice = advice(path);
        *ret = c;
        return 0;
    }
    CLEANUP(buf_free) struct buf fault = {0};
    char *base_url = config_base_url(env(BASE_URL_NAME) ? env(BASE_URL_NAME) : BASE_URL_DEFAULT, &fault);
    if (!base_url) {
        buf_printf(error, "the variable " BASE_URL_NAME " cannot be used: %s", buf_cstr(&fault));
        config_free(c);
        return -1;
    }
    struct config_provider *p = config_add_provider(c, "openai");
    p->wire = mem_strdup("openai-responses");
    p->base_url = base_url;
    p->key = mem_strdup("env:" KEY_NAME);
    struct config_model *m = config_add_model(c, "main");
    m->provider = mem_strdup("openai");
    m->model = mem_strdup(env(MODEL_NAME) ? env(MODEL_NAME) : MODEL_DEFAULT);
    c->model = mem_strdup("main");
    *ret = c;
    return 0;
}
