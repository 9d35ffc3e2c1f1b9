/* OpenAI Responses: streams as the API sends them, and as others do. */
#include "model_stream.h"

#define EVENT(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define CREATED                                                                                              \
    EVENT("response.created", ",\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\",\"output\":[]}")
#define USAGE                                                                                                \
    "\"usage\":{\"input_tokens\":1200,\"input_tokens_details\":{\"cached_tokens\":1000},\"output_tokens\":"  \
    "30,"                                                                                                    \
    "\"output_tokens_details\":{\"reasoning_tokens\":12},\"total_tokens\":1230}"
#define COMPLETED                                                                                            \
    EVENT("response.completed", ",\"response\":{\"status\":\"completed\",\"output\":[]," USAGE "}")

static const struct provider *const responses = &provider_responses;

#define REASONING                                                                                            \
    "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"Look\"},"    \
    "{\"type\":\"summary_text\",\"text\":\"again\"}],\"encrypted_content\":\"gAAA==\"}"
#define MESSAGE                                                                                              \
    "{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"phase\":"      \
    "\"commentary\","                                                                                        \
    "\"content\":[{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":"                    \
    "\"Gr\\u00fc\xc3\x9f \\ud83d\\ude00\"}]}"
/* What a library that writes JSON again would change: 1.10, 20 digits, an escaped NUL, half a pair, the
 * order, the escapes. */
#define ARGUMENTS "{\\\"a\\\":1.10,\\\"b\\\":12345678901234567890,\\\"c\\\":\\\"\\\\u0000\\\\ud800\\/\\\"}"
#define CALL(n, arguments)                                                                                   \
    "{\"id\":\"fc_" n "\",\"type\":\"function_call\",\"status\":\"completed\",\"arguments\":\"" arguments    \
    "\",\"call_id\":\"call_" n "\",\"name\":\"exec_command\"}"

static void test_a_step_with_everything(void **state)
{
    (void)state;
    struct str stream = STR(
        CREATED EVENT("response.in_progress", ",\"response\":{}") EVENT(
            "response.output_item.added",
            ",\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\","
            "\"summary\":[]}") EVENT("response.reasoning_summary_part.added",
                                     ",\"item_id\":\"rs_1\",\"output_index\":0,"
                                     "\"summary_index\":0") EVENT("response.reasoning_summary_text.delta",
                                                                  ",\"item_id\":\"rs_1\",\"output_index\":0,"
                                                                  "\"summary_index\":0,\"delta\":\"Lo\"")
            EVENT("response.reasoning_summary_text.delta",
                  ",\"item_id\":\"rs_1\",\"output_index\":0,"
                  "\"summary_index\":0,\"delta\":\"ok\"") EVENT("response.reasoning_summary_text.delta",
                                                                ",\"item_id\":\"rs_1\",\"output_index\":0,"
                                                                "\"summary_index\":1,\"delta\":\"again\"")
                EVENT("response.output_item.done", ",\"output_index\":0,\"item\":" REASONING) EVENT(
                    "response.output_item.added",
                    ",\"output_index\":1,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"content\":[]}")
                    EVENT("response.content_part.added", ",\"output_index\":1,\"part\":{\"type\":"
                                                         "\"output_text\",\"text\":\"\"}")
                        EVENT("response.output_text.delta",
                              ",\"item_id\":\"msg_1\",\"output_index\":1,\"delta\":\"Gr\\u00fc\xc3\x9f "
                              "\\ud83d\"") EVENT("response.output_text.delta",
                                                 ",\"item_id\":\"msg_1\",\"output_index\":1,\"delta\":"
                                                 "\"\\ude00\"") EVENT("response.output_text.done",
                                                                      ",\"output_index\":1,\"text\":\"...\"")
                            EVENT("response.output_item.done", ",\"output_index\":1,\"item\":" MESSAGE) EVENT(
                                "response.output_item.added",
                                ",\"output_index\":2,\"item\":{\"id\":\"fc_1\",\"type\":\"function_call\","
                                "\"call_id\":\"call_1\",\"name\":\"exec_command\",\"arguments\":\"\"}")
                                EVENT("response.output_item.added",
                                      ",\"output_index\":3,\"item\":{\"id\":\"fc_2\",\"type\":\"function_"
                                      "call\",\"call_id\":\"call_2\",\"name\":\"exec_command\",\"arguments\":"
                                      "\"\"}") EVENT("response.function_call_arguments.delta",
                                                     ",\"output_index\":3,\"delta\":\"{}\"")
                                    EVENT("response.function_call_arguments.delta",
                                          ",\"output_index\":2,\"delta\":\"{\\\"a\\\":1.10,\"")
                                        EVENT("response.output_item.done",
                                              ",\"output_index\":3,\"item\":" CALL("2", "{}"))
                                            EVENT("response.something.new", ",\"output_index\":9")
                                                EVENT("response.output_item.done",
                                                      ",\"output_index\":2,\"item\":" CALL("1", ARGUMENTS))
                                                    COMPLETED);
    stream_check(
        responses, stream,
        TOLD("rLook\n\nagain", "mGr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80",
             "t{\"a\":1.10,\"b\":12345678901234567890,\"c\":\"\\u0000\\ud800/\"}", "t{}"),
        "reasoning Look\n\nagain\n"
        "commentary Gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\n"
        "call call_1 exec_command {\"a\":1.10,\"b\":12345678901234567890,\"c\":\"\\u0000\\ud800/\"}\n"
        "call call_2 exec_command {}\n"
        "raw " REASONING "\nraw " MESSAGE
        "\nraw " CALL("1", ARGUMENTS) "\nraw " CALL("2", "{}") "\n"
                                                               "tool_calls 1200/1000 30/12\n");
    stream_noise(responses, stream, 1);
}

/* No output_index, no deltas, an item on several lines, an item only in the closing event. */
static void test_what_other_servers_leave_out(void **state)
{
    (void)state;
    stream_check(
        responses,
        STR("data: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"message\",\"id\":\"m\"}}\n\n"
            "data: {\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"delta\":\"Hel\"}\n\n"
            "data: {\"type\":\"response.output_item.done\",\"item\":\ndata:  {\"type\": \"message\", "
            "\"id\":\"m\",\n"
            "data: \"content\":[{\"type\":\"output_text\",\"text\":\"Hello\"}]}}\n\n" COMPLETED),
        TOLD("mHello"),
        "message Hello\nraw "
        "{\"type\":\"message\",\"id\":\"m\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hello\"}]}\n"
        "stop 1200/1000 30/12\n");
    stream_check(responses,
                 STR("data: {\"type\":\"response.completed\",\"response\":{\"output\":[" REASONING "," MESSAGE
                     "]}}\n\n"),
                 TOLD("rLook\n\nagain", "mGr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"),
                 "reasoning Look\n\nagain\ncommentary Gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\nraw " REASONING
                 "\nraw " MESSAGE "\nstop 0/0 0/0\n");
}

/* The encrypted reasoning may come late; reasoning that nothing follows is refused by the API; items of
 * unknown type stay. */
static void test_what_returns(void **state)
{
    (void)state;
#define BARE "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":null}"
#define SEARCH "{\"id\":\"ws_1\",\"type\":\"web_search_call\",\"status\":\"completed\"}"
    stream_check(responses,
                 STR(CREATED EVENT("response.output_item.done", ",\"output_index\":0,\"item\":" BARE)
                         EVENT("response.output_item.done", ",\"output_index\":1,\"item\":" SEARCH) EVENT(
                             "response.completed", ",\"response\":{\"output\":[" REASONING "," SEARCH "]}")),
                 TOLD(NULL), "reasoning \nraw " REASONING "\nraw " SEARCH "\nstop 0/0 0/0\n");
    stream_check(responses,
                 STR(CREATED EVENT("response.output_item.done", ",\"output_index\":0,\"item\":" REASONING)
                         EVENT("response.incomplete",
                               ",\"response\":{\"incomplete_details\":{\"reason\":\"max_output_tokens\"}}")),
                 TOLD("rLook\n\nagain"), "reasoning Look\n\nagain\nlength 0/0 0/0\n");
    stream_check(
        responses,
        STR(CREATED EVENT("response.output_item.done", ",\"output_index\":0,\"item\":" BARE) EVENT(
            "response.output_item.done", ",\"output_index\":1,\"item\":" CALL("1", "{}")) COMPLETED),
        TOLD("", "t{}"),
        "reasoning \ncall call_1 exec_command {}\nraw " CALL("1", "{}") "\ntool_calls 1200/1000 30/12\n");
}

static void test_an_item_that_stays_open(void **state)
{
    (void)state;
    stream_check(
        responses,
        STR(CREATED EVENT("response.output_text.delta",
                          ",\"item_id\":\"m\",\"output_index\":0,\"delta\":\"ab \\\"c\\ud800\"")
                EVENT("response.output_item.added", ",\"output_index\":1,\"item\":{\"type\":\"function_"
                                                    "call\",\"call_id\":\"c1\",\"name\":\"exec_command\"}")
                    EVENT("response.function_call_arguments.delta",
                          ",\"output_index\":1,\"delta\":\"{\\\"cmd\"")
                        EVENT("response.incomplete",
                              ",\"response\":{\"incomplete_details\":{\"reason\":\"content_filter\"}}")),
        TOLD("mab \"c", "t{\"cmd"),
        "message ab \"c\xef\xbf\xbd\ncall c1 exec_command {\"cmd\n"
        "raw "
        "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"ab "
        "\\\"c\\ud800\"}]}\n"
        "raw "
        "{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"exec_command\",\"arguments\":\"{\\\"cmd\"}"
        "\n"
        "content_filter 0/0 0/0\n");
}

static void test_refusal_and_cut(void **state)
{
    (void)state;
    stream_check(responses,
                 STR(CREATED EVENT("response.refusal.delta", ",\"output_index\":0,\"delta\":\"No\"")
                         EVENT("response.output_item.done",
                               ",\"output_index\":0,\"item\":{\"type\":\"message\",\"content\":[{\"type\":"
                               "\"refusal\",\"refusal\":\"No.\"}]}") COMPLETED),
                 TOLD("mNo."),
                 "message No.\nraw "
                 "{\"type\":\"message\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"No.\"}]}\nstop "
                 "1200/1000 30/12\n");
    stream_check(responses,
                 STR(CREATED EVENT("response.output_text.delta", ",\"output_index\":0,\"delta\":\"one\"")
                         EVENT("response.output_text.delta",
                               ",\"output_index\":1,\"delta\":\"two\"") "data: {\"type\":\"resp"),
                 TOLD("mone", "mtwo"), "cut, partial: one\n\ntwo\n");
}

static void check_fault(struct str stream, const char *log)
{
    stream_check(responses, stream, TOLD(NULL), log);
}

static void test_faults(void **state)
{
    char log[200];
    (void)state;
    check_fault(STR(CREATED EVENT("response.failed", ",\"response\":{\"status\":\"failed\",\"error\":{"
                                                     "\"code\":\"server_error\",\"message\":\"Oops\"}}")),
                "fault 1 0 the provider says: Oops (server_error)\n");
    check_fault(STR("data: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"Please try "
                    "again in 1.5s.\"}\n\n"),
                "fault 0 1500 the provider says: Please try again in 1.5s. (rate_limit_exceeded)\n");
    check_fault(STR("event: error\ndata: "
                    "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"code\":\"context_"
                    "length_exceeded\",\"message\":\"Too\\nlong\"}}\n\n"),
                "fault 7 0 the provider says: Too long (context_length_exceeded)\n");
    check_fault(STR("data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n"),
                "fault 1 0 the provider says: overloaded\n");
    snprintf(log, sizeof log,
             "fault %d 0 the stream cannot be read: an event that is not JSON, or is nested too deeply\n",
             MODEL_FAULT_MALFORMED);
    check_fault(STR("data: {\"type\":\"response.created\"\n\n"), log);
    check_fault(STR("data: {\"type\":\"response.output_text.delta\",\"delta\":\"\\x\"}\n\n"), log);
    stream_check(responses, STR("data: {\"type\":\"response.completed\",\"response\":\"\xff\"}\n\n"),
                 TOLD(NULL), "fault 5 0 the stream cannot be read: an end without its response\n");
    struct buf deep = {0};
    buf_puts(&deep, "data: ");
    for (int i = 0; i < 100000; i++)
        buf_putc(&deep, '[');
    buf_puts(&deep, "\n\n");
    struct stream s = stream_play(responses, buf_view(&deep), deep.n);
    assert_string_equal(buf_cstr(&s.log), log);
    stream_free(&s);
    buf_free(&deep);
    check_fault(STR("data: "
                    "{\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\","
                    "\"arguments\":\"\"}}\n\n"),
                "fault 5 0 the stream cannot be read: a function call without call_id or name\n");
}

static void test_keep_alive_is_no_progress(void **state)
{
    (void)state;
    struct stream s =
        stream_play(responses,
                    STR(CREATED EVENT("response.in_progress", "") EVENT("response.in_progress", "") EVENT(
                        "keepalive", "") EVENT("response.output_text.delta", ",\"delta\":\"\"") ": x\n\n"),
                    7);
    assert_int_equal(s.progress, 2);
    assert_int_equal(s.quiet, 3);
    stream_free(&s);
}

static void test_request(void **state)
{
    (void)state;
    static const struct provider_tool tools[] = {
        {"exec_command", "Runs \"it\"", "{\"type\":\"object\"}"},
        {"update_plan", "Plans", "{\"type\":\"object\",\"properties\":{}}"}};
    const struct context_item items[] = {
        {.kind = CONTEXT_USER, .text = STR("say \"hi\"\n\x01")},
        {.kind = CONTEXT_RAW, .text = STR(REASONING)},
        {.kind = CONTEXT_RAW, .text = STR(CALL("1", ARGUMENTS))},
        {.kind = CONTEXT_TOOL_OUTPUT, .wire_id = STR("call_1"), .text = STR("ok\n")},
        {.kind = CONTEXT_IMAGE, .media_type = STR("image/png"), .text = STR("\x89PNG")},
        {.kind = CONTEXT_NOTE, .text = STR("run r1 ended")},
        {.kind = CONTEXT_ASSISTANT, .text = STR("I was")},
    };
    struct buf body = {0};
    stream_check_body(responses, items, sizeof items / sizeof *items, STR("gpt"), STR("Be good."), tools, 2,
                      &body);
    assert_string_equal(
        buf_cstr(&body),
        "{\"model\":\"gpt\",\"stream\":true,\"store\":false,\"include\":[\"reasoning.encrypted_content\"],"
        "\"max_output_tokens\":1000,"
        "\"prompt_cache_key\":\"key-1\",\"tools\":[{\"type\":\"function\",\"name\":\"exec_command\","
        "\"description\":\"Runs \\\"it\\\"\","
        "\"strict\":false,\"parameters\":{\"type\":\"object\"}},{\"type\":\"function\",\"name\":\"update_"
        "plan\",\"description\":\"Plans\","
        "\"strict\":false,\"parameters\":{\"type\":\"object\",\"properties\":{}}}],\"parallel_tool_calls\":"
        "true,"
        "\"instructions\":\"Be good.\",\"input\":["
        "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"say "
        "\\\"hi\\\"\\n\\u0001\"}]}," REASONING "," CALL(
            "1",
            ARGUMENTS) ",{\"type\":\"function_call_output\",\"call_id\":\"call_1\",\"output\":\"ok\\n\"},"
                       "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_image\","
                       "\"detail\":\"auto\",\"image_url\":\"data:image/png;base64,iVBORw==\"}]},"
                       "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\","
                       "\"text\":\"[agentd] run r1 ended\"}]},"
                       "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
                       "\"text\":\"I was\"}]}]}");
    stream_check_body(responses, items, 1, STR("gpt"), STR(""), NULL, 0, &body);
    buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_step_with_everything),
        cmocka_unit_test(test_what_other_servers_leave_out),
        cmocka_unit_test(test_what_returns),
        cmocka_unit_test(test_an_item_that_stays_open),
        cmocka_unit_test(test_refusal_and_cut),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_keep_alive_is_no_progress),
        cmocka_unit_test(test_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
