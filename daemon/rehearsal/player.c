#include "player.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/rehearsal/asked.h"

#define SNIPPET_BYTES 400

struct play {
    struct player *player;
    const struct wire *wire;
    const struct step *step;
    struct request request;
    struct reply *reply;
    int64_t now_s;
};

static void refuse(struct reply *reply, int status, const char *code, struct buf *message)
{
    wire_put_error(reply, status, code, buf_view(message));
}

/* Finding the wire */

static bool spoken(const struct player *p, const struct wire *wire)
{
    return !p->wire || strcmp(p->wire, wire->name) == 0;
}

static const struct wire *wire_find(const struct player *p, struct str path)
{
    const struct wire *wire;
    for (size_t i = 0; (wire = wire_at(i)); i++)
        if (str_eqz(path, wire->path) && spoken(p, wire))
            return wire;
    return NULL;
}

static void put_models(struct reply *reply)
{
    buf_puts(&reply->body,
             "{\"object\":\"list\",\"data\":[{\"id\":\"rehearsal\",\"object\":\"model\",\"created\":0,"
             "\"owned_by\":\"agentd-rehearsal\"}]}\n");
}

static void put_not_found(const struct player *p, struct str method, struct str path, struct reply *reply)
{
    CLEANUP(buf_free) struct buf text = {0};
    buf_printf(&text, "the rehearsal has no %.*s %.*s; it has GET /v1/models", STR_ARG(method),
               STR_ARG(path));
    const struct wire *wire;
    for (size_t i = 0; (wire = wire_at(i)); i++)
        if (spoken(p, wire))
            buf_printf(&text, ", POST %s", wire->path);
    CLEANUP(buf_free) struct buf valid = {0};
    utf8_put_valid(&valid, buf_view(&text), false);
    refuse(reply, 404, NULL, &valid);
}

/* Expectations */

static bool matches(const regex_t *regex, struct str text)
{
    regmatch_t whole = {.rm_so = 0, .rm_eo = (regoff_t)text.n};
    return regexec(regex, text.p, 1, &whole, REG_STARTEND) == 0;
}

static bool met(const struct request *r, enum expect_what what, const regex_t *regex)
{
    switch (what) {
    case EXPECT_LAST_OUTPUT:
        return r->outputs_n > 0 && matches(regex, r->outputs[r->outputs_n - 1]);
    case EXPECT_ANY_OUTPUT:
        for (size_t i = 0; i < r->outputs_n; i++)
            if (matches(regex, r->outputs[i]))
                return true;
        return false;
    case EXPECT_LAST_USER:
        return r->last_user.p && matches(regex, r->last_user);
    case EXPECT_REQUEST:
        return matches(regex, r->body);
    }
    return false;
}

static void put_snippet(struct buf *b, struct str text)
{
    if (text.n <= 2 * SNIPPET_BYTES) {
        buf_str(b, text);
        return;
    }
    size_t head = utf8_floor(text, SNIPPET_BYTES), tail = utf8_floor(text, text.n - SNIPPET_BYTES);
    buf_put(b, text.p, head);
    buf_printf(b, "\n... %zu bytes ...\n", tail - head);
    buf_put(b, text.p + tail, text.n - tail);
}

static void put_found(struct buf *b, const struct request *r, enum expect_what what)
{
    if ((what == EXPECT_LAST_OUTPUT || what == EXPECT_ANY_OUTPUT) && r->outputs_n == 0) {
        buf_puts(b, "the request has no tool output");
    } else if (what == EXPECT_LAST_OUTPUT) {
        buf_puts(b, "the last tool output is:\n");
        put_snippet(b, r->outputs[r->outputs_n - 1]);
    } else if (what == EXPECT_ANY_OUTPUT) {
        buf_printf(b, "none of the %zu tool outputs matches; the last is:\n", r->outputs_n);
        put_snippet(b, r->outputs[r->outputs_n - 1]);
    } else if (what == EXPECT_LAST_USER && !r->last_user.p) {
        buf_puts(b, "the request has no user message");
    } else if (what == EXPECT_LAST_USER) {
        buf_puts(b, "the last user message is:\n");
        put_snippet(b, r->last_user);
    } else {
        buf_printf(b, "the %zu bytes of the request do not match", r->body.n);
    }
}

static int expectation_check(struct play *p, enum expect_what what)
{
    const struct expect *expect = &p->step->expect[what];
    if (!expect->pattern.p)
        return 0;
    CLEANUP(buf_free) struct buf pattern = {0}, message = {0};
    script_fill(&pattern, expect->pattern, p->request.turns);
    regex_t regex;
    bool ok = false;
    if (regcomp(&regex, buf_cstr(&pattern), REG_EXTENDED | REG_NEWLINE) == 0) {
        ok = met(&p->request, what, &regex);
        regfree(&regex);
    }
    if (ok)
        return 0;
    buf_printf(&message, "rehearsal: step %lld (%s:%zu) expected %s \"%s\", but ",
               (long long)p->request.turns, p->player->script->path, expect->line, expect_name(what),
               buf_cstr(&pattern));
    put_found(&message, &p->request, what);
    CLEANUP(buf_free) struct buf valid = {0};
    utf8_put_valid(&valid, buf_view(&message), false);
    p->reply->fault = "expectation";
    refuse(p->reply, 400, "expectation_failed", &valid);
    return -1;
}

static int expectations_check(struct play *p)
{
    for (int what = 0; what < EXPECT_COUNT; what++)
        if (expectation_check(p, (enum expect_what)what) < 0)
            return -1;
    return 0;
}

/* The answer of the step */

static struct str filled(struct str text, int64_t number)
{
    if (!text.p)
        return STR_NONE;
    struct buf b = {0};
    struct str ret;
    buf_puts(&b, "");
    script_fill(&b, text, number);
    ret.p = buf_take(&b, &ret.n);
    return ret.p ? ret : str_n(mem_strdup(""), 0);
}

/* Where the script gives no figures: four bytes to a token, as is usual for an estimate. */
static struct usage usage_estimate(const struct play *p, const struct answer *a)
{
    size_t written = a->say.n + a->reasoning.n;
    for (size_t i = 0; i < a->calls_n; i++)
        written += a->calls[i].tool.n + a->calls[i].arguments.n;
    return (struct usage){.input_tokens = (int64_t)(p->request.body.n / 4),
                          .output_tokens = (int64_t)(written / 4 + 1),
                          .reasoning_tokens = (int64_t)(a->reasoning.n / 4)};
}

static void answer_put(struct play *p)
{
    const struct step *s = p->step;
    int64_t k = p->request.turns;
    struct call *calls = mem_alloc((s->calls_n + 1) * sizeof *calls);
    for (size_t i = 0; i < s->calls_n; i++)
        calls[i] = (struct call){filled(s->calls[i].tool, k), filled(s->calls[i].arguments, k)};
    struct answer a = {.say = filled(s->say, k),
                       .reasoning = filled(s->reasoning, k),
                       .phase = s->phase,
                       .calls = calls,
                       .calls_n = s->calls_n,
                       .finish_length = s->finish_length,
                       .usage = s->usage,
                       .step = k,
                       .created = p->now_s};
    if (!a.usage.given)
        a.usage = usage_estimate(p, &a);
    p->wire->put_answer(p->reply, &p->request, &a);
    for (size_t i = 0; i < s->calls_n; i++) {
        mem_free((void *)calls[i].tool.p);
        mem_free((void *)calls[i].arguments.p);
    }
    mem_free(calls);
    mem_free((void *)a.say.p);
    mem_free((void *)a.reasoning.p);
}

/* Faults */

static const char *status_code(int64_t status)
{
    switch (status) {
    case 401:
        return "invalid_api_key";
    case 429:
        return "rate_limit_exceeded";
    default:
        return status >= 500 ? "server_error" : NULL;
    }
}

static void fault_status(struct play *p, const struct fault *f)
{
    CLEANUP(buf_free) struct buf text = {0};
    if (f->message.p)
        buf_str(&text, f->message);
    else
        buf_printf(&text, "rehearsal: step %lld fails with status %lld, as the script says (%s:%zu)",
                   (long long)p->request.turns, (long long)f->status, p->player->script->path, p->step->line);
    p->reply->fault = "status";
    p->reply->retry_after_s = f->retry_after_s;
    refuse(p->reply, (int)f->status, f->code.p ? f->code.p : status_code(f->status), &text);
}

/* Malformed first: a cut or a stall counts the bytes that are sent. */
static void fault_stream(struct reply *reply, const struct fault *f, bool stream)
{
    if (f->malformed.p) {
        reply->fault = "malformed";
        reply_malform(reply, f->malformed, stream);
    }
    if (f->cut_after_bytes >= 0) {
        reply->fault = "cut";
        reply_cut(reply, (size_t)f->cut_after_bytes);
    }
    if (f->stall_ms > 0) {
        reply->fault = f->cut_after_bytes >= 0 ? "stall, cut" : "stall";
        reply_stall(reply, f->stall_ms);
    }
}

static void put_no_step(struct play *p)
{
    CLEANUP(buf_free) struct buf text = {0};
    const struct script *s = p->player->script;
    buf_printf(
        &text,
        "the script has no step %lld: %s has %lld, counted from 0 (the request holds %lld assistant turns)",
        (long long)p->request.turns, s->path, (long long)s->count, (long long)p->request.turns);
    refuse(p->reply, 400, "no_such_step", &text);
}

static void step_play(struct play *p)
{
    const struct step *s = p->step;
    const struct fault *f = NULL;
    if (s->faults_n > 0)
        f = script_fault(s, asked_count(p->player->asked, p->request.conversation, p->request.turns));
    p->reply->step = p->request.turns;
    p->reply->delay_ms = s->delay_ms;
    p->reply->pace_ms = s->pace_ms;
    if (f && f->status) {
        fault_status(p, f);
        return;
    }
    if (s->missing && !f) {
        put_no_step(p);
        return;
    }
    if (expectations_check(p) < 0)
        return;
    answer_put(p);
    if (f)
        fault_stream(p->reply, f, p->request.stream);
}

/* Reading the request */

static int request_parse(struct play *p, struct buf *error)
{
    struct request *r = &p->request;
    json_error_t detail;
    if (json_depth(r->body, PLAYER_DEPTH_MAX) > PLAYER_DEPTH_MAX) {
        buf_printf(error, "We could not parse the JSON body of your request: it is nested deeper than %d.",
                   PLAYER_DEPTH_MAX);
        return -1;
    }
    r->json = json_loadb(r->body.p, r->body.n,
                         JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, &detail);
    if (!json_is_object(r->json)) {
        buf_printf(error, "We could not parse the JSON body of your request: %s (line %d, column %d).",
                   r->json ? "it is not an object" : detail.text, detail.line, detail.column);
        return -1;
    }
    json_t *model = json_object_get(r->json, "model");
    if (!json_is_string(model)) {
        buf_puts(error, "you must provide a model parameter");
        return -1;
    }
    r->model = str_n(json_string_value(model), json_string_length(model));
    r->stream = json_is_true(json_object_get(r->json, "stream"));
    return p->wire->read(r, error);
}

static void wire_play(struct play *p)
{
    CLEANUP(buf_free) struct buf error = {0};
    if (request_parse(p, &error) < 0) {
        CLEANUP(buf_free) struct buf valid = {0};
        utf8_put_valid(&valid, buf_view(&error), false);
        p->reply->fault = "request";
        refuse(p->reply, 400, NULL, &valid);
    } else {
        p->step = script_step(p->player->script, p->request.turns);
        step_play(p);
    }
    request_free(&p->request);
}

void player_reply(struct player *p, struct str method, struct str path, struct str body, int64_t now_s,
                  struct reply *reply)
{
    const struct wire *wire = wire_find(p, path);
    if (wire && str_eqz(method, "POST")) {
        struct play play = {
            .player = p, .wire = wire, .request = {.body = body}, .reply = reply, .now_s = now_s};
        reply->wire = wire->name;
        wire_play(&play);
    } else if (str_eqz(path, "/v1/models") && str_eqz(method, "GET")) {
        put_models(reply);
    } else {
        put_not_found(p, method, path, reply);
    }
}
