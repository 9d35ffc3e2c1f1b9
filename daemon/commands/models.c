/* models/list */
#include "command.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/model/provider.h"

#include <sodium.h>

/* What is missing before the model can be asked; empty: nothing. Never holds a key. */
static void find_missing(const struct config_provider *p, struct buf *ret)
{
    CLEANUP(buf_free) struct buf key = {0}, error = {0};
    if (!p)
        buf_puts(ret, "its provider is not in the configuration");
    else if (!provider_find(str_of(p->wire)))
        buf_printf(ret, "the wire %s is not known", p->wire);
    else if (config_key(p, &key, &error) < 0)
        utf8_put_valid(ret, buf_view(&error), false);
    if (key.p)
        sodium_memzero(key.p, key.cap);
}

static void fill(const struct config *config, const struct config_model *m, struct proto_model *ret,
                 struct buf *missing)
{
    const struct config_provider *p = config_provider_find(config, m->provider);
    find_missing(p, missing);
    *ret = (struct proto_model){
        .name = str_of(m->name),
        .provider = str_of(m->provider),
        .wire = p ? str_of(p->wire) : STR(""),
        .model = str_of(m->model),
        .context_window = m->context_window,
        .default_ = config->model && strcmp(config->model, m->name) == 0,
        .ready = missing->n == 0,
        .detail = missing->n ? buf_view(missing) : STR_NONE,
    };
}

void command_models_list(const struct command *c)
{
    const struct config *config = c->d->config;
    struct proto_model *models = mem_alloc(config->models_n * sizeof *models);
    struct buf *missing = mem_alloc(config->models_n * sizeof *missing);
    for (size_t i = 0; i < config->models_n; i++)
        fill(config, &config->models[i], &models[i], &missing[i]);
    struct result_models_list result = {.models = models, .models_n = config->models_n};
    command_reply(c, &result);
    for (size_t i = 0; i < config->models_n; i++)
        buf_free(&missing[i]);
    mem_free(missing);
    mem_free(models);
}
