/* Plays a recorded stream to a translator, cut in pieces of a size, and writes down all that it said. For the
 * tests of the translators. */
#pragma once
#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/model/provider.h"
#include "daemon/model/sse.h"
#include "daemon/model/wire.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define STREAM_PARTS 8

struct stream {
    struct buf told[STREAM_PARTS]; /* the deltas of each part */
    struct buf log;                /* the response or the fault, as text */
    size_t quiet, progress;
};

static void stream_delta(void *arg, enum delta_kind kind, size_t part, struct str text)
{
    static const char letters[] = "mrt";
    struct stream *s = arg;
    assert_true(part < STREAM_PARTS);
    assert_true(text.n > 0 && utf8_valid(text));
    if (s->told[part].n == 0)
        buf_putc(&s->told[part], letters[kind]);
    buf_str(&s->told[part], text);
}

static void stream_log_part(struct stream *s, const struct model_part *part)
{
    struct buf *b = &s->log;
    assert_true(utf8_valid(part->text) && utf8_valid(part->call.arguments) && utf8_valid(part->call.wire_id));
    switch (part->kind) {
    case PART_MESSAGE:
        buf_puts(b, !part->has_phase ? "message " : part->phase == PHASE_FINAL ? "final " : "commentary ");
        break;
    case PART_REASONING:
        buf_puts(b, "reasoning ");
        break;
    case PART_CALL:
        buf_printf(b, "call %.*s %.*s ", STR_ARG(part->call.wire_id), STR_ARG(part->call.tool));
        buf_str(b, part->call.arguments);
        break;
    }
    buf_str(b, part->text);
    buf_putc(b, '\n');
}

static void stream_log_response(struct stream *s, const struct model_response *r)
{
    for (size_t i = 0; i < r->parts_n; i++)
        stream_log_part(s, &r->parts[i]);
    for (size_t i = 0; i < r->raw_n; i++) {
        assert_true(wire_json_valid(r->raw[i], 64)); /* or every later request would be refused */
        buf_puts(&s->log, "raw ");
        buf_str(&s->log, r->raw[i]);
        buf_putc(&s->log, '\n');
    }
    buf_printf(&s->log, "%s %d/%d %d/%d\n", finish_enum.values[r->finish], (int)r->usage.input_tokens,
               (int)r->usage.cached_input_tokens, (int)r->usage.output_tokens,
               (int)r->usage.reasoning_tokens);
}

static void stream_log_fault(struct stream *s, const struct fault *f)
{
    buf_printf(&s->log, "fault %d %d %s\n", f->kind, (int)f->retry_after_ms, buf_cstr(&f->message));
}

static void stream_free(struct stream *s)
{
    for (size_t i = 0; i < STREAM_PARTS; i++)
        buf_free(&s->told[i]);
    buf_free(&s->log);
}

/* One event. Returns whether the stream goes on. */
static bool stream_event(struct stream *s, const struct provider *provider, struct provider_parser *p,
                         const struct sse_event *event)
{
    switch (provider->parser_event(p, event->event, event->data)) {
    case PROVIDER_QUIET:
        s->quiet++;
        return true;
    case PROVIDER_PROGRESS:
        s->progress++;
        return true;
    case PROVIDER_DONE:
        stream_log_response(s, provider->parser_response(p));
        return false;
    case PROVIDER_FAILED:
        stream_log_fault(s, provider->parser_fault(p));
        return false;
    }
    return false;
}

static struct stream stream_play(const struct provider *provider, struct str text, size_t size)
{
    static const struct model_callbacks callbacks = {.delta = stream_delta};
    static struct limits limits;
    struct stream s = {0};
    struct sse sse;
    struct sse_event event;
    bool more = true;
    limits = limits_default();
    struct provider_parser *p = provider->parser_new(&limits, &callbacks, &s);
    sse_init(&sse, 1 << 20, 1 << 20);
    for (size_t i = 0; i < text.n && more; i += size) {
        sse_feed(&sse, str_n(text.p + i, size < text.n - i ? size : text.n - i));
        while (more && sse_next(&sse, &event) == 1)
            more = stream_event(&s, provider, p, &event);
    }
    if (more && provider->parser_complete(p))
        stream_log_response(&s, provider->parser_response(p));
    else if (more)
        buf_printf(&s.log, "cut, partial: %.*s\n", STR_ARG(provider->parser_partial(p)));
    provider->parser_free(p);
    sse_free(&sse);
    return s;
}

/* The same at every size of the pieces, and the deltas add up to the parts: told[i] is "m..." for a message,
 * "r..." for reasoning, "t..." for a call's arguments. */
static void stream_check(const struct provider *provider, struct str text, const char *const *told,
                         const char *log)
{
    for (size_t size = 1; size <= text.n; size += size < 40 ? 1 : 97) {
        struct stream s = stream_play(provider, text, size);
        assert_string_equal(buf_cstr(&s.log), log);
        for (size_t i = 0; i < STREAM_PARTS && told[i]; i++)
            assert_string_equal(buf_cstr(&s.told[i]), told[i]);
        stream_free(&s);
    }
}
#define TOLD(...) ((const char *const[STREAM_PARTS + 1]){__VA_ARGS__})

static void move_some(char *text, size_t n, size_t to, size_t from)
{
    size_t room = n - (to > from ? to : from);
    memmove(text + to, text + from, room < 40 ? room : 40);
}

/* Damages the stream in a few places, again and again, from a seed: whatever comes, it ends in a response
 * that may be kept, in a fault or in nothing. The sanitizers watch. */
static void stream_noise(const struct provider *provider, struct str text, uint64_t seed)
{
    static const char liked[] = "\"\\{}[]:,0u\n\xff";
    char *copy = mem_dup(text.p, text.n);
    for (int round = 0; round < 1500; round++) {
        memcpy(copy, text.p, text.n);
        for (int i = 0; i <= round % 4; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint64_t r = seed >> 20;
            size_t at = (r >> 16) % text.n;
            if (r & 1)
                copy[at] = liked[(r >> 8) % (sizeof liked - 1)];
            else
                move_some(copy, text.n, at, (r >> 4) % text.n);
        }
        struct stream s = stream_play(provider, str_n(copy, text.n), 1 + (seed >> 33) % 50);
        assert_true(s.log.n > 0);
        stream_free(&s);
    }
    mem_free(copy);
}

/* Heads and tails make valid requests, and a request is the beginning of the next one. */
static void stream_check_body(const struct provider *provider, const struct context_item *items, size_t n,
                              struct str name, struct str instructions, const struct provider_tool *tools,
                              size_t tools_n, struct buf *ret)
{
    struct model_spec spec = {.wire = str_of(provider->wire), .name = name, .max_output_tokens = 1000};
    struct buf prefix = {0};
    provider->put_head(&prefix, &spec, tools, tools_n, instructions, STR("key-1"));
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_putc(&prefix, ',');
        size_t before = prefix.n;
        provider->put_item(&prefix, &items[i]);
        assert_null(memchr(prefix.p + before, '\n', prefix.n - before));
        buf_clear(ret);
        buf_str(ret, buf_view(&prefix));
        provider->put_tail(ret, &spec);
        json_t *json = json_loadb(ret->p, ret->n, JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        json_decref(json);
    }
    buf_free(&prefix);
}
