#include "request.h"

#include "daemon/base/mem.h"

#define IMAGE_BYTES_MAX 64

void request_free(struct request *r)
{
    for (size_t i = 0; i < r->outputs_n; i++)
        mem_free((void *)r->outputs[i].p);
    mem_free(r->outputs);
    mem_free((void *)r->last_user.p);
    mem_free((void *)r->first_user.p);
    json_decref(r->json);
}

static void part_text(struct buf *b, json_t *part)
{
    json_t *text = json_object_get(part, "text");
    json_t *image = json_object_get(part, "image_url");
    if (json_is_object(image)) /* openai-chat wraps it */
        image = json_object_get(image, "url");
    if (json_is_string(text))
        buf_put(b, json_string_value(text), json_string_length(text));
    else if (json_is_string(image))
        buf_printf(b, "[image %.*s]", IMAGE_BYTES_MAX, json_string_value(image));
}

static struct str content_text(json_t *content)
{
    struct buf b = {0};
    struct str text;
    if (json_is_string(content))
        buf_put(&b, json_string_value(content), json_string_length(content));
    size_t i;
    json_t *part;
    if (json_is_array(content))
        json_array_foreach(content, i, part) part_text(&b, part);
    text.p = buf_take(&b, &text.n);
    if (!text.p)
        text.p = mem_strdup("");
    return text;
}

void request_assistant(struct request *r)
{
    r->turns += !r->in_turn;
    r->in_turn = true;
}

void request_other(struct request *r)
{
    r->in_turn = false;
}

static void replace(struct str *text, struct str with)
{
    mem_free((void *)text->p);
    *text = with;
}

void request_user(struct request *r, json_t *content)
{
    request_other(r);
    struct str text = content_text(content);
    if (!r->first_user.p)
        r->first_user = str_n(mem_dup(text.p, text.n), text.n);
    if (text.n > 0)
        replace(&r->last_user, text);
    else
        mem_free((void *)text.p);
}

void request_output(struct request *r, json_t *content)
{
    request_other(r);
    r->outputs = mem_realloc(r->outputs, (r->outputs_n + 1) * sizeof *r->outputs);
    r->outputs[r->outputs_n++] = content_text(content);
}

/* FNV-1a, 64 bits. */
static uint64_t hash(struct str text)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ (unsigned char)text.p[i]) * 1099511628211u;
    return h;
}

void request_finish(struct request *r, json_t *cache_key)
{
    if (json_is_string(cache_key))
        r->conversation = hash(str_n(json_string_value(cache_key), json_string_length(cache_key)));
    else
        r->conversation = hash(r->first_user);
}
