/* The configuration: every class of error with its line, and what the good ones mean. */
#include "daemon/base/mem.h"
#include "daemon/config/config.h"
#include "daemon/config/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET "sk-proj-Abc123-0123456789-0123456789-abcdef"
#define PROVIDER "providers:\n  p: {wire: openai-chat, base_url: \"http://h/v1\"}\n"
#define MODEL "models:\n  m: {provider: p, name: n}\n"

struct folder {
    char path[64];
    char file[128];
};

static int setup(void **state)
{
    struct folder *f = MEM_NEW(struct folder);
    snprintf(f->path, sizeof f->path, "/tmp/agentd-config-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    snprintf(f->file, sizeof f->file, "%s/config.yaml", f->path);
    setenv("XDG_CONFIG_HOME", f->path, 1);
    unsetenv("AGENTD_CONFIG");
    unsetenv("OPENAI_API_KEY");
    unsetenv("OPENAI_BASE_URL");
    unsetenv("OPENAI_MODEL");
    unsetenv("ANTHROPIC_API_KEY");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct folder *f = *state;
    unlink(f->file);
    int rc = rmdir(f->path);
    mem_free(f);
    return rc;
}

static void write_file(const char *path, const void *p, size_t n, mode_t mode)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(p, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static struct config *good(const char *text)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct config *c = config_new();
    if (config_read("f.yaml", str_of(text), c, &error) < 0)
        fail_msg("%s", buf_cstr(&error));
    return c;
}

/* ---- what is refused ---- */

struct bad {
    size_t line;
    const char *says;
    const char *text;
};

static const struct bad bads[] = {
    /* not YAML at all */
    {2, "tabs", "models:\n\tm: 1\n"},
    {1, "UTF-8", "model: \xff\n"},
    {3, "not YAML", "model: m\nlimits: {\n"},
    {1, "colon", "model: a: b\n"},
    {2, "quoted scalar", "policy: open\nmodel: \"m\nx\n"},
    {1, "control", "model: \"a\\0b\"\n"},
    {1, "control", "model: \"a\\nb\"\n"},
    /* YAML that a configuration has no use for */
    {1, "anchors", "model: &a m\n"},
    {2, "anchors", "model: m\npolicy: *a\n"},
    {1, "tags", "model: !!str m\n"},
    {1, "tags", "!!str model: m\n"},
    {3, "second document", "model: m\nmodels: {}\n---\nmodel: n\n"},
    {1, "nested too deep", "limits: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}\n"},
    {1, "short name", "? {a: b}\n: c\n"},
    {1, "short name", "\"\": c\n"},
    /* shapes */
    {1, "a mapping must stand", "- model\n"},
    {1, "a mapping must stand", "just text\n"},
    {1, "`models`: a mapping must stand", "models: [a, {b: [c]}, d]\n"},
    {2, "`models`: a mapping must stand", "policy: open\nmodels:\n  - main\n"},
    {1, "`providers`: a mapping must stand", "providers: p\n"},
    {1, "`limits`: a mapping must stand", "limits: 3\n"},
    {2, "`m`: a mapping must stand", "models:\n  m: n\n"},
    {2, "`m`: a mapping must stand", "providers:\n  m: n\n"},
    {2, "a text must stand here", "policy: open\nmodel: {}\n"},
    {1, "a text must stand here", "model:\n"},
    {1, "1 to 4096 bytes", "model: \"\"\n"},
    /* keys */
    {2, "unknown key `modle`", "policy: open\nmodle: m\n"},
    {3, "unknown key `nam`", PROVIDER "models: {m: {provider: p, nam: n}}\n"},
    {2, "unknown key `url`", "providers:\n  p: {wire: openai-chat, url: \"http://h\"}\n"},
    {3, "`model` stands here a second time (first in line 1)", "model: m\n\nmodel: n\n"},
    {4, "`m` stands here a second time (first in line 3)",
     "models:\n\n  m: {provider: p, name: n}\n  m: {provider: p, name: n}\n"},
    {2, "`name` is missing", "models:\n  m: {provider: p}\n"},
    {2, "`provider` is missing", "models:\n  m: {name: p}\n"},
    {2, "`base_url` is missing", "providers:\n  p: {wire: openai-chat}\n"},
    {2, "`wire` is missing", "providers:\n  p: {base_url: \"http://h\"}\n"},
    {2, "begins with none", "models:\n  -m: {provider: p, name: n}\n"},
    {1, "letters, digits", "providers: {\"a b\": {}}\n"},
    /* references */
    {2, "the provider p of model m is not under `providers:`", "models:\n  m: {provider: p, name: n}\n"},
    {1, "the default, x, is not under `models:`", "model: x\n" PROVIDER MODEL},
    {1, "the default, x, is not under `models:`", "model: x\n"},
    {1, "no default", PROVIDER "models: {a: {provider: p, name: n}, b: {provider: p, name: n}}\n"},
    /* providers */
    {2, "not there yet", "providers:\n  p: {wire: anthropic-messages, base_url: \"http://h\"}\n"},
    {2, "there is no wire grpc", "providers:\n  p: {wire: grpc, base_url: \"http://h\"}\n"},
    {2, "`base_url`: a base URL begins with https://",
     "providers:\n  p: {wire: openai-chat, base_url: \"ftp://h\"}\n"},
    {2, "`base_url`: a base URL begins with https://", "providers:\n  p: {wire: openai-chat, base_url: h}\n"},
    {2, "needs a host", "providers:\n  p: {wire: openai-chat, base_url: \"http:///v1\"}\n"},
    {2, "needs a host", "providers:\n  p: {wire: openai-chat, base_url: \"http://h:99999/v1\"}\n"},
    {2, "needs a host", "providers:\n  p: {wire: openai-chat, base_url: \"http://[::1/v1\"}\n"},
    {2, "needs a host", "providers:\n  p: {wire: openai-chat, base_url: \"http://h:/v1\"}\n"},
    {2, "no blanks", "providers:\n  p: {wire: openai-chat, base_url: \"http://h/a b\"}\n"},
    {2, "ends with its path", "providers:\n  p: {wire: openai-chat, base_url: \"http://h/v1?x=1\"}\n"},
    {2, "no user name", "providers:\n  p: {wire: openai-chat, base_url: \"https://me:" SECRET "@h/v1\"}\n"},
    {3, "never written here", "providers:\n  p:\n    key: " SECRET "\n"},
    {3, "not the key itself", "providers:\n  p:\n    key: env:" SECRET "\n"},
    {3, "name of an environment variable", "providers:\n  p:\n    key: \"env:\"\n"},
    {3, "name of an environment variable", "providers:\n  p:\n    key: env:1A\n"},
    {3, "absolute path", "providers:\n  p:\n    key: file:" SECRET "\n"},
    {3, "leave it out", "providers:\n  p:\n    key:\n"},
    {3, "unknown key `...`", "providers:\n  p:\n    " SECRET ": x\n"},
    /* numbers */
    {2, "a whole number from 1", "models:\n  m: {context_window: big}\n"},
    {2, "a whole number from 1", "models:\n  m: {context_window: 0}\n"},
    {2, "a whole number from 1", "models:\n  m: {context_window: -5}\n"},
    {2, "a whole number from 1", "models:\n  m: {context_window: 010}\n"},
    {2, "a whole number from 1", "models:\n  m: {context_window: 1e6}\n"},
    {2, "a whole number from 1", "models:\n  m: {context_window: 272_000}\n"},
    {2, "a whole number from 1", "models:\n  m: {context_window: \"272000\"}\n"},
    {2, "a whole number from 1", "models:\n  m: {context_window: 99999999999999999999}\n"},
    {2, "above context_window",
     "models:\n  m: {provider: p, name: n, context_window: 10, max_output_tokens: 11}\n"},
    {2, "a price must be a mapping", "models:\n  m: {price: 3}\n"},
    {2, "`output` is missing", "models:\n  m: {price: {input: 1}}\n"},
    {2, "unknown key `cached`", "models:\n  m: {price: {input: 1, cached: 1}}\n"},
    {2, "at most three decimals", "models:\n  m: {price: {input: 0.0375}}\n"},
    {2, "a price is a number", "models:\n  m: {price: {input: -1}}\n"},
    {2, "a price is a number", "models:\n  m: {price: {input: 1.}}\n"},
    {2, "a price is a number", "models:\n  m: {price: {input: .5}}\n"},
    {2, "a price is a number", "models:\n  m: {price: {input: 1e3}}\n"},
    {2, "a price is a number", "models:\n  m: {price: {input: 1000000.001}}\n"},
    {2, "a price is a number", "models:\n  m: {price: {input: 99999999999999999999}}\n"},
    {2, "a price is a number", "models:\n  m: {price: {input: free}}\n"},
    {2, "without quotes", "models:\n  m: {price: {input: \"1\"}}\n"},
    {3, "unknown limit `frame_bytes`", "limits:\n  depth_max: 64\n  frame_bytes: 1\n"},
    {2, "`depth_max`: a whole number from 16 to 512", "limits:\n  depth_max: 15\n"},
    {2, "`depth_max`: a whole number from 16 to 512", "limits:\n  depth_max: 513\n"},
    {2, "`depth_max`: a whole number from 16 to 512", "limits:\n  depth_max:\n"},
    {2, "tool_output_bytes (40000) is above tool_output_bytes_max (2000)",
     "limits:\n  tool_output_bytes_max: 2000\n"},
    {3, "retry_ms_min (90000) is above", "limits:\n  depth_max: 64\n  retry_ms_min: 90000\n"},
    /* policy */
    {1, "there is no policy strict", "policy: strict\n"},
    {1, "the only one so far is open", "policy: {}\n"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        CLEANUP(buf_free) struct buf error = {0}, prefix = {0};
        struct config *c = config_new();
        if (config_read("f.yaml", str_of(bads[i].text), c, &error) == 0)
            fail_msg("accepted: %s", bads[i].text);
        buf_printf(&prefix, "f.yaml:%zu: ", bads[i].line);
        if (!str_starts(buf_view(&error), prefix.p) || !strstr(error.p, bads[i].says) ||
            strstr(error.p, "Abc123"))
            fail_msg("for:\n%swanted line %zu and \"%s\", got: %s", bads[i].text, bads[i].line, bads[i].says,
                     error.p);
        config_free(c);
    }
}

/* Whatever the bytes are, there is an answer: the longest good text, cut at every length and with every byte
 * damaged. */
static void test_damaged(void **state)
{
    static const char whole[] =
        "model: m\nmodels:\n  m: {provider: p, name: \"n\", price: {input: 1, output: 2}}\n"
        "providers:\n  p: {wire: openai-chat, base_url: 'http://h/v1', key: env:K}\nlimits: {}\n";
    static const char damage[] = "\0\t\n\"'{}[]:,&*!|>-?#%@`\x7f\x80\xff\xef";
    (void)state;
    size_t refused = 0;
    for (size_t at = 0; at < sizeof whole - 1; at++) {
        for (size_t d = 0; d < sizeof damage; d++) {
            CLEANUP(buf_free) struct buf error = {0};
            char text[sizeof whole];
            memcpy(text, whole, sizeof whole);
            text[at] = damage[d];
            struct config *c = config_new();
            size_t n = d + 1 == sizeof damage ? at : sizeof whole - 1;
            int rc = config_read("f.yaml", str_n(text, n), c, &error);
            assert_true(rc == 0 ? error.n == 0 : str_starts(buf_view(&error), "f.yaml:"));
            refused += rc < 0;
            config_free(c);
        }
    }
    assert_true(refused > sizeof whole);
}

static void test_large(void **state)
{
    const struct folder *f = *state;
    CLEANUP(buf_free) struct buf text = {0}, error = {0};
    struct config *c = NULL;
    for (int i = 0; i < 10000; i++)
        buf_printf(&text, "k%d: 1\n", i);
    struct config *read = config_new();
    assert_int_equal(config_read("f.yaml", buf_view(&text), read, &error), -1);
    assert_non_null(strstr(error.p, "too long for a configuration"));
    config_free(read);

    buf_clear(&error);
    while (text.n <= CONFIG_FILE_BYTES_MAX)
        buf_puts(
            &text,
            "# a comment that is rather long, so that the file is too large before the parser sees it\n");
    write_file(f->file, text.p, text.n, 0600);
    assert_int_equal(config_load(f->file, &c, &error), -1);
    assert_non_null(strstr(error.p, "config.yaml:1: a configuration has at most 1 MiB"));
}

static void test_no_plain_file(void **state)
{
    const struct folder *f = *state;
    CLEANUP(buf_free) struct buf error = {0};
    struct config *c = NULL;
    assert_int_equal(config_load(f->file, &c, &error), -1);
    assert_non_null(strstr(error.p, "there is no such file"));
    buf_clear(&error);
    setenv("AGENTD_CONFIG", f->file, 1);
    assert_int_equal(config_load(NULL, &c, &error), -1);
    assert_non_null(strstr(error.p, "there is no such file"));
    unsetenv("AGENTD_CONFIG");
    buf_clear(&error);
    assert_int_equal(config_load(f->path, &c, &error), -1);
    assert_non_null(strstr(error.p, "not a plain file"));
}

/* ---- what is understood ---- */

static void test_example(void **state)
{
    (void)state;
    struct config *c = good(
        "model: main\n"
        "models:\n"
        "  main: {provider: local, name: gpt-5.3-codex, context_window: 272000, max_output_tokens: 32000,\n"
        "         price: {input: 1.75, cached_input: 0.175, output: 14.0}}\n"
        "  other: {provider: local, name: '4'}\n"
        "providers:\n"
        "  local: {wire: openai-responses, base_url: \"http://127.0.0.1:8080/v1/\", key: "
        "\"env:OPENAI_API_KEY\"}\n"
        "policy: open\n"
        "limits: {depth_max: 16, run_output_bytes_max: 17179869184}\n");
    assert_string_equal(c->model, "main");
    assert_string_equal(c->policy, "open");
    const struct config_model *m = config_model_find(c, STR_NONE);
    assert_string_equal(m->model, "gpt-5.3-codex");
    assert_int_equal(m->context_window, 272000);
    assert_int_equal(m->max_output_tokens, 32000);
    assert_int_equal(m->price_input, 1750);
    assert_int_equal(m->price_cached_input, 175);
    assert_int_equal(m->price_output, 14000);
    const struct config_provider *p = config_provider_find(c, m->provider);
    assert_string_equal(p->wire, "openai-responses");
    assert_string_equal(p->base_url, "http://127.0.0.1:8080/v1");
    assert_string_equal(p->key, "env:OPENAI_API_KEY");
    assert_string_equal(config_model_find(c, STR("other"))->model, "4");
    assert_null(config_model_find(c, STR("mai")));
    assert_null(config_provider_find(c, "main"));
    assert_int_equal(c->limits.depth_max, 16);
    assert_int_equal(c->limits.run_output_bytes_max, INT64_C(17179869184));
    assert_int_equal(c->limits.frame_bytes_max, limits_default().frame_bytes_max);
    config_free(c);
}

static void test_little(void **state)
{
    static const char *const texts[] = {"",
                                        "# nothing\n",
                                        "---\n",
                                        "{}",
                                        "models:\nproviders: ~\nlimits: null\n",
                                        "\xef\xbb\xbfpolicy: open\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct config *c = good(texts[i]);
        assert_null(c->model);
        assert_null(config_model_find(c, STR_NONE));
        assert_int_equal(c->models_n, 0);
        assert_string_equal(c->policy, "open");
        config_free(c);
    }
    struct config *only = good(MODEL PROVIDER);
    assert_string_equal(only->model, "m"); /* the only one is the default */
    assert_int_equal(config_model_find(only, STR_NONE)->price_input, 0);
    config_free(only);
}

static void test_prices(void **state)
{
    static const struct {
        const char *text;
        int64_t nano;
    } prices[] = {{"0", 0},
                  {"1.75", 1750},
                  {"0.175", 175},
                  {"14.0", 14000},
                  {"0.001", 1},
                  {"0.1000000", 100},
                  {"15", 15000},
                  {"1000000", 1000000000},
                  {"1000000.000", 1000000000},
                  {"999999.999", 999999999}};
    (void)state;
    for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++) {
        CLEANUP(buf_free) struct buf error = {0};
        int64_t nano = -1;
        assert_int_equal(config_price(prices[i].text, &nano, &error), 0);
        assert_int_equal(nano, prices[i].nano);
    }
    struct config *c = good(PROVIDER "models: {m: {provider: p, name: n, price: {input: 3, output: 15}}}\n");
    assert_int_equal(c->models[0].price_cached_input, 3000); /* as dear as any other input */
    config_free(c);
}

static void test_urls(void **state)
{
    static const char *const urls[][2] = {
        {"https://api.openai.com/v1", "https://api.openai.com/v1"},
        {"http://127.0.0.1:8080/v1///", "http://127.0.0.1:8080/v1"},
        {"http://[::1]:11434/v1/", "http://[::1]:11434/v1"},
        {"https://h/", "https://h"},
        {"https://h/a@b", "https://h/a@b"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        CLEANUP(buf_free) struct buf error = {0};
        char *url = config_base_url(urls[i][0], &error);
        assert_non_null(url);
        assert_string_equal(url, urls[i][1]);
        mem_free(url);
    }
}

/* ---- without a file ---- */

static struct config *from_environment(void)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct config *c = NULL;
    if (config_load(NULL, &c, &error) < 0)
        fail_msg("%s", buf_cstr(&error));
    return c;
}

static void test_environment_nothing(void **state)
{
    (void)state;
    struct config *c = from_environment();
    assert_null(c->model);
    assert_null(c->path);
    assert_non_null(strstr(c->advice, "set OPENAI_API_KEY"));
    config_free(c);
    setenv("ANTHROPIC_API_KEY", SECRET, 1);
    setenv("OPENAI_API_KEY", "", 1);
    c = from_environment();
    assert_null(c->model);
    assert_non_null(strstr(c->advice, "ANTHROPIC_API_KEY is set"));
    assert_null(strstr(c->advice, SECRET));
    config_free(c);
}

static void test_environment_openai(void **state)
{
    CLEANUP(buf_free) struct buf error = {0}, key = {0};
    struct config *none = NULL;
    (void)state;
    setenv("ANTHROPIC_API_KEY", "x", 1);
    setenv("OPENAI_API_KEY", SECRET, 1);
    struct config *c = from_environment();
    assert_null(c->advice);
    const struct config_model *m = config_model_find(c, STR("main"));
    assert_ptr_equal(m, config_model_find(c, STR_NONE));
    const struct config_provider *p = config_provider_find(c, m->provider);
    assert_string_equal(p->name, "openai");
    assert_string_equal(p->wire, "openai-responses");
    assert_string_equal(p->base_url, "https://api.openai.com/v1");
    assert_int_equal(config_key(p, &key, &error), 0);
    assert_string_equal(buf_cstr(&key), SECRET);
    config_free(c);

    setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/", 1);
    setenv("OPENAI_MODEL", "local-model", 1);
    c = from_environment();
    assert_string_equal(c->models[0].model, "local-model");
    assert_string_equal(c->providers[0].base_url, "http://127.0.0.1:1/v1");
    config_free(c);

    setenv("OPENAI_BASE_URL", "127.0.0.1", 1);
    assert_int_equal(config_load(NULL, &none, &error), -1);
    assert_true(str_starts(buf_view(&error), "the variable OPENAI_BASE_URL cannot be used: "));
}

/* A file in the usual place is enough; the environment then says nothing about models. */
static void test_usual_place(void **state)
{
    const struct folder *f = *state;
    char dir[100], file[120];
    snprintf(dir, sizeof dir, "%s/agentd", f->path);
    snprintf(file, sizeof file, "%s/config.yaml", dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    write_file(file, "policy: open\n", 13, 0600);
    setenv("OPENAI_API_KEY", SECRET, 1);
    struct config *c = from_environment();
    assert_string_equal(c->path, file);
    assert_null(c->model);
    assert_non_null(strstr(c->advice, file));
    config_free(c);
    unlink(file);
    rmdir(dir);
}

/* ---- keys ---- */

static void test_key_file(void **state)
{
    static const struct {
        const char *content, *key, *says;
    } files[] = {
        {SECRET "\n", SECRET, NULL},
        {SECRET "\r\n\n", SECRET, NULL},
        {SECRET, SECRET, NULL},
        {"\n", NULL, "is empty"},
        {"", NULL, "is empty"},
        {SECRET " x\n", NULL, "holds blanks"},
        {SECRET "\nHost: x", NULL, "holds blanks"},
    };
    const struct folder *f = *state;
    CLEANUP(buf_free) struct buf spec = {0};
    buf_printf(&spec, "file:%s", f->file);
    const struct config_provider p = {.name = (char *)(uintptr_t) "p", .key = spec.p};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        CLEANUP(buf_free) struct buf key = {0}, error = {0};
        write_file(f->file, files[i].content, strlen(files[i].content), 0600);
        int rc = config_key(&p, &key, &error);
        assert_int_equal(rc, files[i].key ? 0 : -1);
        assert_string_equal(buf_cstr(&key), files[i].key ? files[i].key : "");
        if (rc < 0 &&
            (!strstr(error.p, files[i].says) || !strstr(error.p, f->file) || strstr(error.p, "Abc123")))
            fail_msg("%s", error.p);
    }
}

static void test_key_missing(void **state)
{
    const struct folder *f = *state;
    CLEANUP(buf_free) struct buf spec = {0}, key = {0}, error = {0};
    const struct config_provider none = {.name = (char *)(uintptr_t) "p"};
    assert_int_equal(config_key(&none, &key, &error), 0);
    assert_int_equal(key.n, 0);

    const struct config_provider env = {.name = (char *)(uintptr_t) "p",
                                        .key = (char *)(uintptr_t) "env:OPENAI_API_KEY"};
    assert_int_equal(config_key(&env, &key, &error), -1);
    assert_non_null(strstr(error.p, "OPENAI_API_KEY"));
    assert_non_null(strstr(error.p, "is not set"));

    buf_clear(&error);
    buf_printf(&spec, "file:%s", f->file);
    const struct config_provider file = {.name = (char *)(uintptr_t) "p", .key = spec.p};
    assert_int_equal(config_key(&file, &key, &error), -1);
    assert_non_null(strstr(error.p, f->file));
    buf_clear(&error);
    buf_clear(&spec);
    buf_printf(&spec, "file:%s", f->path);
    const struct config_provider dir = {.name = (char *)(uintptr_t) "p", .key = spec.p};
    assert_int_equal(config_key(&dir, &key, &error), -1);
    assert_non_null(strstr(error.p, "not a plain file"));
}

static void test_key_home(void **state)
{
    const struct folder *f = *state;
    CLEANUP(buf_free) struct buf key = {0}, error = {0};
    const struct config_provider p = {.name = (char *)(uintptr_t) "p",
                                      .key = (char *)(uintptr_t) "file:~/config.yaml"};
    write_file(f->file, "k\n", 2, 0600);
    setenv("HOME", f->path, 1);
    assert_int_equal(config_key(&p, &key, &error), 0);
    assert_string_equal(buf_cstr(&key), "k");
}

/* A key file that others can read is used, and its user is told. */
static void test_key_open_to_others(void **state)
{
    const struct folder *f = *state;
    char key[100], said[4096] = "";
    snprintf(key, sizeof key, "%s/key", f->path);
    write_file(key, "k\n", 2, 0640);
    CLEANUP(buf_free) struct buf text = {0}, error = {0};
    buf_printf(&text, "providers: {p: {wire: openai-chat, base_url: \"http://h\", key: \"file:%s\"}}\n", key);
    write_file(f->file, text.p, text.n, 0600);

    FILE *log = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(log), STDERR_FILENO);
    struct config *c = NULL;
    int rc = config_load(f->file, &c, &error);
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(rc, 0);
    rewind(log);
    assert_true(fread(said, 1, sizeof said - 1, log) > 0);
    assert_non_null(strstr(said, "WARN"));
    assert_non_null(strstr(said, "chmod 600"));
    fclose(log);
    config_free(c);
    unlink(key);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refused),
        TEST(test_damaged),
        TEST(test_large),
        TEST(test_no_plain_file),
        TEST(test_example),
        TEST(test_little),
        TEST(test_prices),
        TEST(test_urls),
        TEST(test_environment_nothing),
        TEST(test_environment_openai),
        TEST(test_usual_place),
        TEST(test_key_file),
        TEST(test_key_missing),
        TEST(test_key_home),
        TEST(test_key_open_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
