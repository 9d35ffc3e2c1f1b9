/* agentctl models: the configured models. */
#include "client/client.h"
#include "client/say.h"
#include "client/text.h"

#include "daemon/base/mem.h"

static void show_model(const json_t *m)
{
    CLEANUP(buf_free) struct buf b = {0}, line = {0};
    bool ready = json_is_true(json_object_get(m, "ready"));
    buf_printf(&b, "%s  %s at %s (%s)", client_string(m, "name"), client_string(m, "model"), client_string(m, "provider"),
               client_string(m, "wire"));
    if (json_is_true(json_object_get(m, "default")))
        buf_puts(&b, ", the default");
    buf_printf(&b, ": %s", ready ? "ready" : client_string(m, "detail"));
    text_put_line(&line, buf_view(&b), 0);
    buf_putc(&line, '\n');
    say_data(buf_view(&line));
}

static void show(const json_t *result)
{
    const json_t *models = json_object_get(result, "models");
    size_t i;
    json_t *m;
    json_array_foreach(models, i, m) show_model(m);
    if (json_array_size(models) == 0)
        say_talk("no model is configured; set OPENAI_API_KEY, or write a configuration file (agentctl doctor says where)");
}

int cmd_models(struct client *c)
{
    return client_call(c, METHOD_MODELS_LIST, &(struct params_models_list){0}, show);
}
