/* Events: written, read as a client reads them, and written again they are the same bytes. Input: the name of
 * a kind, a line feed, the position and the time (8 bytes each), the members as JSON. */
#include <jansson.h>

#include "fuzz.h"

#include "daemon/base/mem.h"
#include "proto/types.h"

static int find(struct str name)
{
    for (int i = 1; i <= EVENT_KIND_MAX; i++)
        if (event_descriptors[i].kind && str_eqz(name, event_descriptors[i].kind))
            return i;
    return EVENT_TASK_CREATED;
}

static json_t *parse(struct str text)
{
    return json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
}

/* Beyond 2^52 nano-dollars (4.5 million dollars) a JSON number does not hold them exactly. */
static bool exact(const struct proto_object *type, const char *p)
{
    for (size_t i = 0; i < type->n; i++) {
        const struct proto_field *f = &type->fields[i];
        int64_t v = f->type == PROTO_USD ? *(const int64_t *)(const void *)(p + f->offset) : 0;
        if (v > (1LL << 52) || v < -(1LL << 52))
            return false;
        if (f->type == PROTO_OBJECT && !exact(f->object, p + f->offset))
            return false;
    }
    return true;
}

static bool decode(const json_t *json, struct event *event, struct proto_arena *arena)
{
    CLEANUP(buf_free) struct buf error = {0};
    const struct event_descriptor *d = &event_descriptors[event->kind];
    return proto_decode(d->type, json, 0, (char *)event + d->offset, arena, &error) == 0;
}

static void check_again(const struct event *event, struct str text)
{
    CLEANUP(buf_free) struct buf again = {0};
    CLEANUP(proto_arena_free) struct proto_arena arena = {0};
    json_t *json = parse(text);
    HOLDS(json);
    struct event read = {
        .kind = event->kind, .seq = event->seq, .pos = event->pos, .at = event->at, .task = event->task};
    HOLDS(decode(json, &read, &arena));
    event_encode(&again, &read);
    HOLDS(str_eq(text, buf_view(&again)) ||
          !exact(event_descriptors[event->kind].type,
                 (const char *)event + event_descriptors[event->kind].offset));
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_input(data, size);
    CLEANUP(buf_free) struct buf text = {0};
    CLEANUP(proto_arena_free) struct proto_arena arena = {0};
    struct event event = {.task = STR("t01h2x3y4z5a6b7c8d9e0f1g2h3"), .seq = 1};
    event.kind = (enum event_kind)find(fuzz_line(&in));
    event.pos = fuzz_i64(&in);
    event.at = fuzz_i64(&in);
    json_t *json = parse(in);
    if (json_is_object(json) && decode(json, &event, &arena)) {
        event_encode(&text, &event);
        HOLDS(!memchr(text.p, '\n', text.n));
        check_again(&event, buf_view(&text));
    }
    json_decref(json);
    return 0;
}
