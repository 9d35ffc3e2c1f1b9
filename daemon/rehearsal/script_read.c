/* Reading a script: every key is known, every value has its shape, every pattern compiles; else an error with
 * its line. */
#include "script.h"

#include "daemon/base/mem.h"
#include "daemon/rehearsal/yaml_file.h"

struct reader {
    struct yaml_file file;
    struct script *script;
    struct fault *waiting; /* entries that are only a fault, until their step comes */
    size_t waiting_n;
    int64_t pace_ms;
    struct usage usage;
};

/* One key of a mapping; `target` is what the mapping is read into. */
struct field {
    const char *name;
    int (*read)(struct reader *r, const yaml_node_t *value, const char *name, void *target);
};

static int fields_read(struct reader *r, const yaml_node_t *node, const char *what,
                       const struct field *fields, size_t n, void *target)
{
    if (yaml_check_mapping(&r->file, node, what) < 0)
        return -1;
    yaml_node_t *key, *value;
    for (size_t i = 0; (key = yaml_key_at(&r->file, node, i, &value)); i++) {
        size_t j = 0;
        while (j < n && !str_eqz(yaml_text(key), fields[j].name))
            j++;
        if (j == n) {
            struct buf names = {0};
            for (j = 0; j < n; j++)
                buf_printf(&names, "%s%s", j ? ", " : "", fields[j].name);
            yaml_complain(&r->file, key, "%s has no key \"%.60s\"; it has %s", what, yaml_text(key).p,
                          buf_cstr(&names));
            buf_free(&names);
            return -1;
        }
        if (fields[j].read(r, value, fields[j].name, target) < 0)
            return -1;
    }
    return 0;
}

#define FIELDS_READ(r, node, what, fields, target)                                                           \
    fields_read(r, node, what, fields, sizeof(fields) / sizeof((fields)[0]), target)

/* usage */

static int usage_input(struct reader *r, const yaml_node_t *v, const char *name, void *u)
{
    return yaml_get_int(&r->file, v, name, 0, INT32_MAX, &((struct usage *)u)->input_tokens);
}

static int usage_cached(struct reader *r, const yaml_node_t *v, const char *name, void *u)
{
    return yaml_get_int(&r->file, v, name, 0, INT32_MAX, &((struct usage *)u)->cached_input_tokens);
}

static int usage_output(struct reader *r, const yaml_node_t *v, const char *name, void *u)
{
    return yaml_get_int(&r->file, v, name, 0, INT32_MAX, &((struct usage *)u)->output_tokens);
}

static int usage_reasoning(struct reader *r, const yaml_node_t *v, const char *name, void *u)
{
    return yaml_get_int(&r->file, v, name, 0, INT32_MAX, &((struct usage *)u)->reasoning_tokens);
}

static int usage_read(struct reader *r, const yaml_node_t *node, struct usage *ret)
{
    static const struct field fields[] = {{"input_tokens", usage_input},
                                          {"cached_input_tokens", usage_cached},
                                          {"output_tokens", usage_output},
                                          {"reasoning_tokens", usage_reasoning}};
    ret->given = true;
    return FIELDS_READ(r, node, "usage", fields, ret);
}

/* call */

static int call_tool(struct reader *r, const yaml_node_t *v, const char *name, void *c)
{
    return yaml_get_text(&r->file, v, name, &((struct call *)c)->tool);
}

static int call_take(struct reader *r, const yaml_node_t *v, struct call *call, struct str arguments)
{
    if (call->arguments.p) {
        mem_free((void *)arguments.p);
        return yaml_complain(&r->file, v, "a call has arguments or raw_arguments, not both");
    }
    call->arguments = arguments;
    return 0;
}

static int call_arguments(struct reader *r, const yaml_node_t *v, const char *name, void *c)
{
    if (v->type != YAML_MAPPING_NODE)
        return yaml_complain(&r->file, v, "%s must be a mapping; raw_arguments sends any text", name);
    struct buf json = {0};
    struct str text;
    if (yaml_get_json(&r->file, v, SCRIPT_DEPTH_MAX, &json) < 0) {
        buf_free(&json);
        return -1;
    }
    text.p = buf_take(&json, &text.n);
    return call_take(r, v, c, text);
}

static int call_raw_arguments(struct reader *r, const yaml_node_t *v, const char *name, void *c)
{
    struct str text;
    return yaml_get_text(&r->file, v, name, &text) < 0 ? -1 : call_take(r, v, c, text);
}

static int call_read(struct reader *r, const yaml_node_t *node, struct step *step)
{
    static const struct field fields[] = {
        {"tool", call_tool}, {"arguments", call_arguments}, {"raw_arguments", call_raw_arguments}};
    if (step->calls_n == SCRIPT_CALLS_MAX)
        return yaml_complain(&r->file, node, "a step has at most %d calls", SCRIPT_CALLS_MAX);
    step->calls = mem_realloc(step->calls, (step->calls_n + 1) * sizeof *step->calls);
    struct call *call = &step->calls[step->calls_n++];
    *call = (struct call){0};
    if (FIELDS_READ(r, node, "a call", fields, call) < 0)
        return -1;
    if (call->tool.n == 0)
        return yaml_complain(&r->file, node, "a call names its tool: {tool: exec_command, arguments: {...}}");
    if (!call->arguments.p)
        call->arguments = str_n(mem_strdup("{}"), 2);
    return 0;
}

static int step_call(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    struct step *step = s;
    if (step->calls_n > 0)
        return yaml_complain(&r->file, v, "a step has %s or calls, not both", name);
    return call_read(r, v, step);
}

static int step_calls(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    struct step *step = s;
    if (step->calls_n > 0)
        return yaml_complain(&r->file, v, "a step has call or %s, not both", name);
    if (v->type != YAML_SEQUENCE_NODE)
        return yaml_complain(&r->file, v, "%s must be a list of calls", name);
    yaml_node_t *item;
    for (size_t i = 0; (item = yaml_at(&r->file, v, i)); i++)
        if (call_read(r, item, step) < 0)
            return -1;
    return 0;
}

/* expect */

static int pattern_check(struct reader *r, const yaml_node_t *v, struct str pattern)
{
    CLEANUP(buf_free) struct buf filled = {0};
    script_fill(&filled, pattern, 0);
    regex_t regex;
    int rc = regcomp(&regex, buf_cstr(&filled), REG_EXTENDED | REG_NOSUB | REG_NEWLINE);
    if (rc != 0) {
        char text[200];
        regerror(rc, &regex, text, sizeof text);
        return yaml_complain(&r->file, v, "\"%.200s\" is not a POSIX extended regular expression: %s",
                             pattern.p, text);
    }
    regfree(&regex);
    return 0;
}

static int expect_read(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    struct step *step = s;
    size_t what = 0;
    while (strcmp(expect_name((enum expect_what)what), name) != 0)
        what++;
    struct expect *expect = &step->expect[what];
    expect->line = yaml_line(v);
    if (yaml_get_text(&r->file, v, name, &expect->pattern) < 0)
        return -1;
    return pattern_check(r, v, expect->pattern);
}

static int step_expect(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    static const struct field fields[] = {{"last_output_matches", expect_read},
                                          {"any_output_matches", expect_read},
                                          {"last_user_matches", expect_read},
                                          {"request_matches", expect_read}};
    return FIELDS_READ(r, v, name, fields, s);
}

/* fault */

static int fault_status(struct reader *r, const yaml_node_t *v, const char *name, void *f)
{
    return yaml_get_int(&r->file, v, name, 400, 599, &((struct fault *)f)->status);
}

static int fault_retry_after(struct reader *r, const yaml_node_t *v, const char *name, void *f)
{
    return yaml_get_int(&r->file, v, name, 0, SCRIPT_MS_MAX, &((struct fault *)f)->retry_after_s);
}

static int fault_code(struct reader *r, const yaml_node_t *v, const char *name, void *f)
{
    return yaml_get_text(&r->file, v, name, &((struct fault *)f)->code);
}

static int fault_message(struct reader *r, const yaml_node_t *v, const char *name, void *f)
{
    return yaml_get_text(&r->file, v, name, &((struct fault *)f)->message);
}

static int fault_cut(struct reader *r, const yaml_node_t *v, const char *name, void *f)
{
    return yaml_get_int(&r->file, v, name, 0, INT32_MAX, &((struct fault *)f)->cut_after_bytes);
}

static int fault_stall(struct reader *r, const yaml_node_t *v, const char *name, void *f)
{
    return yaml_get_int(&r->file, v, name, 1, SCRIPT_MS_MAX, &((struct fault *)f)->stall_ms);
}

static int fault_malformed(struct reader *r, const yaml_node_t *v, const char *name, void *f)
{
    struct str *malformed = &((struct fault *)f)->malformed;
    static const char broken[] = "{\"type\": \"response.output_text.delta\", \"delta\": ";
    if (yaml_get_text(&r->file, v, name, malformed) < 0)
        return -1;
    if (v->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && str_eqz(*malformed, "false"))
        return yaml_complain(&r->file, v, "malformed is true or the text to send");
    if (v->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && str_eqz(*malformed, "true")) {
        mem_free((void *)malformed->p);
        *malformed = str_n(mem_strdup(broken), sizeof broken - 1);
    }
    return 0;
}

static int fault_times(struct reader *r, const yaml_node_t *v, const char *name, void *f)
{
    return yaml_get_int(&r->file, v, name, 1, INT32_MAX, &((struct fault *)f)->times);
}

static int fault_check(struct reader *r, const yaml_node_t *v, const struct fault *f)
{
    bool stream = f->cut_after_bytes >= 0 || f->stall_ms > 0 || f->malformed.p;
    if (!f->status && !stream)
        return yaml_complain(&r->file, v, "a fault needs status, cut_after_bytes, stall_ms or malformed");
    if (f->status && stream)
        return yaml_complain(&r->file, v,
                             "a fault with a status sends no stream: leave out what concerns the stream");
    if (!f->status && (f->retry_after_s >= 0 || f->code.p || f->message.p))
        return yaml_complain(&r->file, v, "retry_after_s, code and message belong to a fault with a status");
    return 0;
}

static int step_fault(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    static const struct field fields[] = {
        {"status", fault_status},       {"retry_after_s", fault_retry_after},
        {"code", fault_code},           {"message", fault_message},
        {"cut_after_bytes", fault_cut}, {"stall_ms", fault_stall},
        {"malformed", fault_malformed}, {"times", fault_times}};
    struct step *step = s;
    step->faults = mem_alloc(sizeof *step->faults);
    step->faults_n = 1;
    *step->faults = (struct fault){.retry_after_s = -1, .cut_after_bytes = -1, .times = 1};
    if (FIELDS_READ(r, v, name, fields, step->faults) < 0)
        return -1;
    return fault_check(r, v, step->faults);
}

/* the rest of a step */

static int step_say(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    return yaml_get_text(&r->file, v, name, &((struct step *)s)->say);
}

static int step_reasoning(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    return yaml_get_text(&r->file, v, name, &((struct step *)s)->reasoning);
}

static int step_phase(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    struct str *phase = &((struct step *)s)->phase;
    if (yaml_get_text(&r->file, v, name, phase) < 0)
        return -1;
    if (str_eqz(*phase, "commentary") || str_eqz(*phase, "final_answer"))
        return 0;
    return yaml_complain(&r->file, v, "phase is commentary or final_answer");
}

static int step_finish(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    if (v->type != YAML_SCALAR_NODE || !str_eqz(yaml_text(v), "length"))
        return yaml_complain(&r->file, v, "%s is length, or is left out", name);
    ((struct step *)s)->finish_length = true;
    return 0;
}

static int step_delay(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    return yaml_get_int(&r->file, v, name, 0, SCRIPT_MS_MAX, &((struct step *)s)->delay_ms);
}

static int step_pace(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    return yaml_get_int(&r->file, v, name, 0, SCRIPT_MS_MAX, &((struct step *)s)->pace_ms);
}

static int step_repeat(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    return yaml_get_int(&r->file, v, name, 1, SCRIPT_REPEAT_MAX, &((struct step *)s)->repeat);
}

static int step_usage(struct reader *r, const yaml_node_t *v, const char *name, void *s)
{
    (void)name;
    return usage_read(r, v, &((struct step *)s)->usage);
}

/* entries */

static void fault_wait(struct reader *r, struct step *entry)
{
    r->waiting = mem_realloc(r->waiting, (r->waiting_n + 1) * sizeof *r->waiting);
    r->waiting[r->waiting_n++] = entry->faults[0];
    mem_free(entry->faults);
    r->script->steps_n--;
}

/* Puts a copy of the faults that wait in front of the step's own. */
static void faults_place(struct reader *r, struct step *step)
{
    struct fault *own = step->faults;
    step->faults = r->waiting;
    for (size_t i = 0; i < step->faults_n; i++) {
        step->faults = mem_realloc(step->faults, (r->waiting_n + i + 1) * sizeof *own);
        step->faults[r->waiting_n + i] = own[i];
    }
    step->faults_n += r->waiting_n;
    mem_free(own);
    r->waiting = NULL;
    r->waiting_n = 0;
}

static struct step *step_add(struct reader *r, size_t line)
{
    struct script *s = r->script;
    s->steps = mem_realloc(s->steps, (s->steps_n + 1) * sizeof *s->steps);
    struct step *step = &s->steps[s->steps_n++];
    *step = (struct step){.line = line, .first = s->count, .repeat = 1, .pace_ms = -1};
    return step;
}

static int entry_read(struct reader *r, const yaml_node_t *node)
{
    static const struct field fields[] = {
        {"say", step_say},        {"reasoning", step_reasoning}, {"phase", step_phase},
        {"call", step_call},      {"calls", step_calls},         {"expect", step_expect},
        {"delay_ms", step_delay}, {"pace_ms", step_pace},        {"repeat", step_repeat},
        {"finish", step_finish},  {"usage", step_usage},         {"fault", step_fault}};
    struct step *step = step_add(r, yaml_line(node));
    if (FIELDS_READ(r, node, "a step", fields, step) < 0)
        return -1;
    bool speaks = step->say.p || step->reasoning.p || step->calls_n > 0;
    if (!speaks && step->faults_n > 0) {
        if (node->data.mapping.pairs.top - node->data.mapping.pairs.start > 1)
            return yaml_complain(&r->file, node, "an entry with a fault and nothing to say has no other key");
        fault_wait(r, step);
        return 0;
    }
    if (!speaks)
        return yaml_complain(&r->file, node, "a step needs say, call, calls, reasoning or fault");
    if (step->repeat > 1 && r->waiting_n > 0) {
        /* The waiting faults belong to the first repetition only: it becomes an entry of its own by reading
         * it twice. */
        int64_t repeat = step->repeat;
        step->repeat = 1;
        faults_place(r, step);
        r->script->count++;
        step = step_add(r, yaml_line(node));
        if (FIELDS_READ(r, node, "a step", fields, step) < 0)
            return -1;
        step->repeat = repeat - 1;
    }
    faults_place(r, step);
    r->script->count += step->repeat;
    return 0;
}

static int script_steps(struct reader *r, const yaml_node_t *v, const char *name, void *unused)
{
    (void)unused;
    if (v->type != YAML_SEQUENCE_NODE)
        return yaml_complain(&r->file, v, "%s must be a list", name);
    yaml_node_t *item;
    for (size_t i = 0; (item = yaml_at(&r->file, v, i)); i++) {
        if (i == SCRIPT_ENTRIES_MAX)
            return yaml_complain(&r->file, item, "a script has at most %d entries", SCRIPT_ENTRIES_MAX);
        if (entry_read(r, item) < 0)
            return -1;
    }
    if (r->script->steps_n == 0 && r->waiting_n == 0)
        return yaml_complain(&r->file, v, "%s is empty", name);
    return 0;
}

static int script_usage(struct reader *r, const yaml_node_t *v, const char *name, void *unused)
{
    (void)name, (void)unused;
    return usage_read(r, v, &r->usage);
}

static int script_pace(struct reader *r, const yaml_node_t *v, const char *name, void *unused)
{
    (void)unused;
    return yaml_get_int(&r->file, v, name, 0, SCRIPT_MS_MAX, &r->pace_ms);
}

static int root_read(struct reader *r)
{
    static const struct field fields[] = {
        {"steps", script_steps}, {"usage", script_usage}, {"pace_ms", script_pace}};
    yaml_node_t *root = yaml_file_root(&r->file);
    if (!root)
        return yaml_complain(&r->file, NULL, "it is empty; a script has steps:");
    if (FIELDS_READ(r, root, "a script", fields, NULL) < 0)
        return -1;
    if (r->script->steps_n == 0 && r->waiting_n == 0)
        return yaml_complain(&r->file, root, "a script has steps:");
    faults_place(r, step_add(r, r->file.document.end_mark.line));
    struct script *s = r->script;
    s->steps[s->steps_n - 1].missing = true;
    for (size_t i = 0; i < s->steps_n; i++) {
        if (s->steps[i].pace_ms < 0)
            s->steps[i].pace_ms = r->pace_ms;
        if (!s->steps[i].usage.given)
            s->steps[i].usage = r->usage;
    }
    return 0;
}

int script_read(const char *path, struct script **ret, struct buf *error)
{
    struct reader r = {.script = MEM_NEW(struct script)};
    r.script->path = mem_strdup(path);
    if (yaml_file_read(&r.file, path, SCRIPT_BYTES_MAX, error) < 0) {
        script_free(r.script);
        return -1;
    }
    int rc = root_read(&r);
    yaml_file_free(&r.file);
    if (rc < 0) {
        faults_place(&r, step_add(&r, 0)); /* so that they are freed with it */
        script_free(r.script);
        return -1;
    }
    *ret = r.script;
    return 0;
}
