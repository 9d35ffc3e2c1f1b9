/* OpenAI Chat Completions: streams as OpenAI, vLLM, llama.cpp, Ollama and OpenRouter send them. */
#include "model_stream.h"

#define CHUNK(choice, rest)                                                                                  \
    "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[" choice "]" rest "}\n\n"
#define DELTA(members)                                                                                       \
    CHUNK("{\"index\":0,\"delta\":{" members "},\"finish_reason\":null}", ",\"usage\":null")
#define FINISH(reason) CHUNK("{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}", "")
#define USAGE                                                                                                \
    CHUNK("", ",\"usage\":{\"prompt_tokens\":1200,\"prompt_tokens_details\":{\"cached_tokens\":1000},"       \
              "\"completion_tokens\":30,"                                                                    \
              "\"completion_tokens_details\":{\"reasoning_tokens\":12}}")
#define DONE "data: [DONE]\n\n"

static const struct provider *const chat = &provider_chat;

static void test_text(void **state)
{
    (void)state;
    struct str stream = STR(DELTA("\"role\":\"assistant\",\"content\":\"\"")
                                DELTA("\"content\":\"Gr\\u00fc\xc3\x9f \\ud83d\"")
                                    DELTA("\"content\":\"\\ude00\\/\"") FINISH("stop") USAGE DONE);
    stream_check(chat, stream, TOLD("mGr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80/"),
                 "message Gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80/\n"
                 "raw {\"role\":\"assistant\",\"content\":\"Gr\\u00fc\xc3\x9f \\ud83d\\ude00\\/\"}\nstop "
                 "1200/1000 30/12\n");
}

/* What a library that writes JSON again would change stays as it was. */
static void test_parallel_calls(void **state)
{
    (void)state;
    struct str stream =
        STR(DELTA("\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"call_a\","
                  "\"type\":\"function\",\"function\":{\"name\":\"exec_command\",\"arguments\":\"\"}}]")
                DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":1.10,\\\"b\\\":"
                      "123456789012\"}}]")
                    DELTA("\"tool_calls\":[{\"index\":1,\"id\":\"call_b\",\"type\":\"function\",\"function\":"
                          "{\"name\":\"update_plan\",\"arguments\":\"\"}}]")
                        DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"34567890,\\\"c\\\":"
                              "\\\"\\\\u0000\\\\ud800\\/\\\"}\"}}]") FINISH("tool_calls") USAGE DONE);
    stream_check(
        chat, stream, TOLD("t{\"a\":1.10,\"b\":12345678901234567890,\"c\":\"\\u0000\\ud800/\"}", ""),
        "call call_a exec_command {\"a\":1.10,\"b\":12345678901234567890,\"c\":\"\\u0000\\ud800/\"}\n"
        "call call_b update_plan \n"
        "raw "
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_a\",\"type\":\"function\","
        "\"function\":"
        "{\"name\":\"exec_command\",\"arguments\":\"{\\\"a\\\":1.10,\\\"b\\\":12345678901234567890,\\\"c\\\":"
        "\\\"\\\\u0000\\\\ud800\\/\\\"}\"}},"
        "{\"id\":\"call_b\",\"type\":\"function\",\"function\":{\"name\":\"update_plan\",\"arguments\":\"{}"
        "\"}}]}\n"
        "tool_calls 1200/1000 30/12\n");
    stream_noise(chat, stream, 1);
}

static void test_reasoning_returns_under_its_name(void **state)
{
    (void)state;
    stream_check(
        chat,
        STR(DELTA("\"reasoning_content\":\"Hm\\n\"") DELTA("\"reasoning_content\":\".\"")
                DELTA("\"content\":\"Yes\"") FINISH("stop")),
        TOLD("rHm\n.", "mYes"),
        "reasoning Hm\n.\nmessage Yes\nraw "
        "{\"role\":\"assistant\",\"content\":\"Yes\",\"reasoning_content\":\"Hm\\n.\"}\nstop 0/0 0/0\n");
    stream_check(
        chat, STR(DELTA("\"reasoning\":\"Hm\",\"content\":\"\"") FINISH("length") DONE), TOLD("rHm"),
        "reasoning Hm\nraw {\"role\":\"assistant\",\"content\":\"\",\"reasoning\":\"Hm\"}\nlength 0/0 0/0\n");
}

/* llama.cpp and Ollama: a call in one chunk; a server that gives every call the number 0; an object as
 * arguments; comments. */
static void test_what_other_servers_send(void **state)
{
    (void)state;
    stream_check(
        chat,
        STR(": OPENROUTER PROCESSING\n\n" DELTA(
            "\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]")
                DELTA("\"tool_calls\":[{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":{"
                      "\"x\":\"\\\"\"}},\"extra_content\":{\"google\":{\"thought_signature\":\"s==\"}}}]")
                    FINISH("stop") DONE),
        TOLD("t{}", "t{\"x\":\"\\\"\"}"),
        "call a f {}\ncall b g {\"x\":\"\\\"\"}\n"
        "raw {\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
        "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
        "{\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{\\\"x\\\":"
        "\\\"\\\\\\\"\\\"}\"},\"extra_content\":{\"google\":{\"thought_signature\":\"s==\"}}}]}\n"
        "tool_calls 0/0 0/0\n");
    stream_check(chat, STR(DELTA("\"role\":\"assistant\"") FINISH("stop") DONE), TOLD(NULL),
                 "stop 0/0 0/0\n");
    stream_check(chat, STR(DELTA("\"refusal\":\"No\"") FINISH("content_filter") DONE), TOLD("mNo"),
                 "message No\nraw "
                 "{\"role\":\"assistant\",\"content\":null,\"refusal\":\"No\"}\ncontent_filter 0/0 0/0\n");
}

/* A server parses the arguments in its history, and would refuse every later request. */
static void test_broken_arguments_do_not_poison_the_history(void **state)
{
    (void)state;
    stream_check(chat,
                 STR(DELTA("\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\","
                           "\"arguments\":\"{\\\"cmd\"}}]") FINISH("length") DONE),
                 TOLD("t{\"cmd"),
                 "call a f {\"cmd\nraw "
                 "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"a\",\"type\":"
                 "\"function\",\"function\":"
                 "{\"name\":\"f\",\"arguments\":\"{\\\"arguments_that_were_not_json\\\":\\\"{\\\\\\\"cmd\\\"}"
                 "\"}}]}\nlength 0/0 0/0\n");
}

/* The one place where the answer is not known beforehand: the id is made up, once, and is the same in both
 * places. */
static void test_missing_ids(void **state)
{
    (void)state;
    struct stream s =
        stream_play(chat,
                    STR(DELTA("\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]")
                            DELTA("\"tool_calls\":[{\"function\":{\"arguments\":\":1}\"}}]")
                                DELTA("\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]")
                                    FINISH("tool_calls") DONE),
                    11);
    char first[64], second[64], expected[1000];
    assert_int_equal(sscanf(buf_cstr(&s.log), "call %63s f {\"a\":1}\ncall %63s f {}", first, second), 2);
    assert_true(strlen(first) == strlen("call_") + 24 && strncmp(first, "call_", 5) == 0);
    assert_string_not_equal(first, second);
    snprintf(
        expected, sizeof expected,
        "call %s f {\"a\":1}\ncall %s f {}\nraw {\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
        "{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},"
        "{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}\ntool_"
        "calls 0/0 0/0\n",
        first, second, first, second);
    assert_string_equal(buf_cstr(&s.log), expected);
    stream_free(&s);
}

static void test_faults(void **state)
{
    (void)state;
    stream_check(chat,
                 STR(DELTA("\"content\":\"a\"") "data: {\"error\":{\"code\":429,\"message\":\"Slow down, try "
                                                "again in 2 minutes\"},\"choices\":[]}\n\n"),
                 TOLD("ma"), "fault 0 120000 the provider says: Slow down, try again in 2 minutes\n");
    stream_check(chat,
                 STR("data: {\"error\":{\"code\":400,\"message\":\"the request exceeds the available context "
                     "size\",\"type\":\"exceed_context_size_error\",\"n_ctx\":4096}}\n\n"),
                 TOLD(NULL), "fault 7 0 the provider says: the request exceeds the available context size\n");
    stream_check(chat, STR("data: {\"choices\":\n\n"), TOLD(NULL),
                 "fault 5 0 the stream cannot be read: an event that is not JSON, or is nested too deeply\n");
    stream_check(chat, STR(DONE), TOLD(NULL),
                 "fault 5 0 the stream cannot be read: it ended before it began\n");
    stream_check(chat, STR(DELTA("\"content\":\"a\"") FINISH("error") DONE), TOLD("ma"),
                 "fault 1 0 the provider ended the response with an error that it does not explain\n");
    stream_check(chat, STR(DELTA("\"content\":\"abc\"") DELTA("\"content\":\"d\"")), TOLD("mabcd"),
                 "cut, partial: abcd\n");
}

static void test_empty_chunks_are_no_progress(void **state)
{
    (void)state;
    struct stream s = stream_play(chat,
                                  STR(DELTA("\"role\":\"assistant\",\"content\":\"\"") DELTA(
                                      "\"content\":\"\"") DELTA("") ": x\n\n" DELTA("\"content\":\"a\"")),
                                  5);
    assert_int_equal(s.progress, 2);
    assert_int_equal(s.quiet, 2);
    stream_free(&s);
}

static void test_request(void **state)
{
    (void)state;
    static const struct provider_tool tools[] = {{"exec_command", "Runs it", "{\"type\":\"object\"}"}};
    const struct context_item items[] = {
        {.kind = CONTEXT_USER, .text = STR("hi\n")},
        {.kind = CONTEXT_RAW, .text = STR("{\"role\":\"assistant\",\"content\":null}")},
        {.kind = CONTEXT_TOOL_OUTPUT, .wire_id = STR("call_1"), .text = STR("ok")},
        {.kind = CONTEXT_IMAGE, .media_type = STR("image/png"), .text = STR("\x89PNG")},
        {.kind = CONTEXT_NOTE, .text = STR("n")},
        {.kind = CONTEXT_ASSISTANT, .text = STR("I was")},
    };
    struct buf body = {0};
    stream_check_body(chat, items, sizeof items / sizeof *items, STR("q\"wen"), STR("Be good."), tools, 1,
                      &body);
    assert_string_equal(
        buf_cstr(&body),
        "{\"model\":\"q\\\"wen\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_"
        "completion_tokens\":1000,"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"exec_command\",\"description\":\"Runs "
        "it\",\"strict\":false,"
        "\"parameters\":{\"type\":\"object\"}}}],\"parallel_tool_calls\":true,\"messages\":["
        "{\"role\":\"system\",\"content\":\"Be "
        "good.\"},{\"role\":\"user\",\"content\":\"hi\\n\"},{\"role\":\"assistant\",\"content\":null},"
        "{\"role\":\"tool\",\"tool_call_id\":\"call_1\",\"content\":\"ok\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/"
        "png;base64,iVBORw==\"}}]},"
        "{\"role\":\"user\",\"content\":\"[agentd] n\"},{\"role\":\"assistant\",\"content\":\"I was\"}]}");
    stream_check_body(chat, items, 1, STR("m"), STR(""), NULL, 0, &body);
    assert_string_equal(
        buf_cstr(&body),
        "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        "\"max_completion_tokens\":1000,\"messages\":[{\"role\":\"user\",\"content\":\"hi\\n\"}]}");
    buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_parallel_calls),
        cmocka_unit_test(test_reasoning_returns_under_its_name),
        cmocka_unit_test(test_what_other_servers_send),
        cmocka_unit_test(test_broken_arguments_do_not_poison_the_history),
        cmocka_unit_test(test_missing_ids),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_empty_chunks_are_no_progress),
        cmocka_unit_test(test_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
