#include "daemon/model/parts.h"

#include "daemon/base/mem.h"
#include "daemon/model/wire.h"

void parts_init(struct parts *p, const struct model_callbacks *callbacks, void *arg)
{
    *p = (struct parts){.callbacks = callbacks, .arg = arg};
}

static void part_free(struct part *part)
{
    buf_free(&part->item_id);
    buf_free(&part->id);
    buf_free(&part->name);
    buf_free(&part->id_raw);
    buf_free(&part->name_raw);
    buf_free(&part->extra);
    buf_free(&part->raw);
    buf_free(&part->text);
    buf_free(&part->item);
    mem_free(part);
}

void parts_free(struct parts *p)
{
    for (size_t i = 0; i < p->n; i++)
        part_free(p->all[i]);
    mem_free(p->all);
    mem_free(p->out);
    mem_free(p->out_raw);
    buf_free(&p->partial);
}

struct part *parts_add(struct parts *p, bool shown, enum part_kind kind, int64_t index)
{
    if (p->n == PARTS_MAX)
        return NULL;
    struct part *part = MEM_NEW(struct part);
    *part = (struct part){.shown = shown, .kind = kind, .index = index};
    if (shown)
        part->number = p->shown_n++;
    p->all = mem_realloc(p->all, (p->n + 1) * sizeof *p->all);
    p->all[p->n++] = part;
    p->last = part;
    return part;
}

struct part *parts_find(struct parts *p, int64_t index, struct str item_id)
{
    for (size_t i = 0; index >= 0 && i < p->n; i++)
        if (p->all[i]->index == index)
            return p->all[i];
    /* Some gateways change the ids from event to event: a number, where both sides have one, has the last
     * word. */
    for (size_t i = 0; item_id.n > 0 && i < p->n; i++)
        if ((index < 0 || p->all[i]->index < 0) && str_eq(buf_view(&p->all[i]->item_id), item_id))
            return p->all[i];
    return NULL;
}

static void set_once(struct buf *text, struct buf *raw, struct str value)
{
    struct str inside = wire_inside(value);
    if (inside.n == 0 || raw->n > 0)
        return;
    buf_str(raw, inside);
    wire_put_text(text, inside, false);
}

void part_set_id(struct part *part, struct str value)
{
    set_once(&part->id, &part->id_raw, value);
}

void part_set_name(struct part *part, struct str value)
{
    set_once(&part->name, &part->name_raw, value);
}

static enum delta_kind delta_kind_of(enum part_kind kind)
{
    switch (kind) {
    case PART_MESSAGE:
        return DELTA_KIND_MESSAGE_DELTA;
    case PART_REASONING:
        return DELTA_KIND_REASONING_DELTA;
    case PART_CALL:
        return DELTA_KIND_TOOL_DELTA;
    }
    return DELTA_KIND_MESSAGE_DELTA;
}

/* Tells the text behind `from`. */
static void tell(struct parts *p, const struct part *part, size_t from)
{
    if (part->shown && part->text.n > from)
        p->callbacks->delta(p->arg, delta_kind_of(part->kind), part->number,
                            str_n(part->text.p + from, part->text.n - from));
}

void parts_put(struct parts *p, struct part *part, struct str inside)
{
    size_t from = part->text.n;
    p->last = part;
    buf_str(&part->raw, inside);
    struct str left = str_n(part->raw.p + part->decoded, part->raw.n - part->decoded);
    part->decoded += wire_put_text(&part->text, left, true);
    tell(p, part, from);
}

void parts_finish_text(struct parts *p, struct part *part, struct buf *text)
{
    size_t told = part->text.n;
    bool goes_on = told <= text->n && (told == 0 || memcmp(part->text.p, text->p, told) == 0);
    buf_free(&part->text);
    part->text = *text;
    *text = (struct buf){0};
    if (goes_on)
        tell(p, part, told);
}

struct str parts_partial(struct parts *p)
{
    buf_clear(&p->partial);
    for (size_t i = 0; i < p->n; i++) {
        const struct part *part = p->all[i];
        if (!part->shown || part->kind != PART_MESSAGE || part->text.n == 0)
            continue;
        if (p->partial.n > 0)
            buf_puts(&p->partial, "\n\n");
        buf_str(&p->partial, buf_view(&part->text));
    }
    return buf_view(&p->partial);
}

static void fill_part(struct part *part, struct model_part *ret)
{
    /* Half a pair whose other half never came. */
    if (!part->done && part->decoded < part->raw.n)
        wire_put_text(&part->text, str_n(part->raw.p + part->decoded, part->raw.n - part->decoded), false);
    part->decoded = part->raw.n;
    *ret = (struct model_part){.kind = part->kind, .phase = part->phase, .has_phase = part->has_phase};
    if (part->kind == PART_CALL)
        ret->call = (struct call_spec){.wire_id = buf_view(&part->id),
                                       .tool = buf_view(&part->name),
                                       .arguments = buf_view(&part->text)};
    else
        ret->text = buf_view(&part->text);
}

void parts_respond(struct parts *p, struct str raw, enum finish finish, const struct proto_usage *usage)
{
    size_t n = 0, raw_n = 0;
    p->out = mem_realloc(p->out, (p->n + 1) * sizeof *p->out);
    p->out_raw = mem_realloc(p->out_raw, (p->n + 1) * sizeof *p->out_raw);
    for (size_t i = 0; i < p->n; i++) {
        struct part *part = p->all[i];
        if (part->shown)
            fill_part(part, &p->out[n++]);
        if (!raw.p && part->item.n > 0)
            p->out_raw[raw_n++] = buf_view(&part->item);
    }
    if (raw.p)
        p->out_raw[raw_n++] = raw;
    p->response = (struct model_response){
        .parts = p->out, .parts_n = n, .raw = p->out_raw, .raw_n = raw_n, .finish = finish, .usage = *usage};
}
