/* config.yaml: any bytes are refused with `file:line: sentence`, on one line, or make a whole configuration
 * whose parts fit. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/config/config.h"
#include "daemon/config/parts.h"

static void check_error(struct str error)
{
    HOLDS(str_starts(error, "f.yaml:") && fuzz_shows(error, false));
    size_t digits = strspn(error.p + 7, "0123456789");
    HOLDS(digits > 0 && error.p[7] != '0' && error.n > 10 && error.p[7 + digits] == ':');
}

static void check_limits(const struct limits *l)
{
#define X(name, def, least, most, doc) HOLDS(l->name >= (least) && l->name <= (most));
    LIMITS(X)
#undef X
}

static void check_config(const struct config *c)
{
    CLEANUP(buf_free) struct buf error = {0};
    for (size_t i = 0; i < c->models_n; i++) {
        const struct config_model *m = &c->models[i];
        HOLDS(m->name && m->model && m->provider && config_provider_find(c, m->provider));
        HOLDS(m->context_window >= 0 && m->max_output_tokens >= 0);
        HOLDS(m->price_input >= 0 && m->price_cached_input >= 0 && m->price_output >= 0);
    }
    for (size_t i = 0; i < c->providers_n; i++) {
        const struct config_provider *p = &c->providers[i];
        HOLDS(p->name && p->wire && p->base_url && (!p->key || config_key_check(p->key, &error) == 0));
    }
    HOLDS(!c->model || config_model_find(c, STR_NONE));
    HOLDS(c->policy);
    check_limits(&c->limits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct config *c = config_new();
    int read = config_read("f.yaml", fuzz_input(data, size), c, &error);
    if (read < 0)
        check_error(buf_view(&error));
    else
        check_config(c);
    HOLDS((read < 0) == (error.n > 0));
    config_free(c);
    return 0;
}
