"""agentd-rehearsal: what is answered, on the wire."""
import http.client
import json
import time

from rehearsing import CHAT, PATHS, RESPONSES, Rehearsal, body, chat_turn, events, read_until, responses_turn, send, turn, user

FULL = """
steps:
  - say: "I look first, über alle Maßen, at what is there."
    reasoning: "Think about step {k}."
    phase: commentary
    calls:
      - {tool: exec_command, arguments: {cmd: "make {k}", n: 1.10, deep: [1, {a: null, b: true}]}}
      - {tool: update_plan, raw_arguments: '{"broken": '}
usage: {input_tokens: 1200, cached_input_tokens: 1000, output_tokens: 30, reasoning_tokens: 7}
"""
SAY = "I look first, über alle Maßen, at what is there."
ARGUMENTS = ['{"cmd":"make 0","n":1.10,"deep":[1,{"a":null,"b":true}]}', '{"broken": ']


class Streams(Rehearsal):
    def test_responses_sends_the_events_of_the_real_one_in_order(self):
        server = self.serve(FULL)
        status, headers, data = server.post(RESPONSES, "hi", stream=True, include=["reasoning.encrypted_content"])
        self.assertEqual(200, status)
        self.assertTrue(headers["Content-Type"].startswith("text/event-stream"))
        found = events(RESPONSES, data)
        self.assertEqual(list(range(len(found))), [e["sequence_number"] for e in found])
        squeezed = [e["type"] for i, e in enumerate(found) if i == 0 or e["type"] != found[i - 1]["type"]]
        part = ["response.function_call_arguments.delta", "response.function_call_arguments.done",
                "response.output_item.done"]
        self.assertEqual(
            ["response.created", "response.in_progress", "response.output_item.added",
             "response.reasoning_summary_part.added", "response.reasoning_summary_text.delta",
             "response.reasoning_summary_text.done", "response.reasoning_summary_part.done",
             "response.output_item.done", "response.output_item.added", "response.content_part.added",
             "response.output_text.delta", "response.output_text.done", "response.content_part.done",
             "response.output_item.done", "response.output_item.added", *part, "response.output_item.added", *part,
             "response.completed"], squeezed)

        def deltas(kind, index):
            return [e["delta"] for e in found if e["type"] == f"response.{kind}.delta" and e["output_index"] == index]

        self.assertEqual("Think about step 0.", "".join(deltas("reasoning_summary_text", 0)))
        self.assertEqual(SAY, "".join(deltas("output_text", 1)))
        self.assertGreater(len(deltas("output_text", 1)), 2)
        self.assertEqual(ARGUMENTS, ["".join(deltas("function_call_arguments", i)) for i in (2, 3)])
        last = found[-1]["response"]
        self.assertEqual("completed", last["status"])
        self.assertEqual(last["output"], [e["item"] for e in found if e["type"] == "response.output_item.done"])
        self.assertEqual(["reasoning", "message", "function_call", "function_call"], [i["type"] for i in last["output"]])
        self.assertTrue(last["output"][0]["encrypted_content"])
        self.assertEqual("commentary", last["output"][1]["phase"])
        self.assertEqual(ARGUMENTS, [i["arguments"] for i in last["output"][2:]])
        self.assertEqual(2, len({i["call_id"] for i in last["output"][2:]}))
        self.assertEqual({"input_tokens": 1200, "input_tokens_details": {"cached_tokens": 1000}, "output_tokens": 30,
                          "output_tokens_details": {"reasoning_tokens": 7}, "total_tokens": 1230}, last["usage"])
        added = {e["output_index"]: e["item"]["id"] for e in found if e["type"] == "response.output_item.added"}
        for e in found:
            if "item_id" in e:
                self.assertEqual(added[e["output_index"]], e["item_id"])

    def test_responses_document_is_what_the_stream_ends_with(self):
        server = self.serve(FULL)
        document = server.ask(RESPONSES, "hi")
        _, _, data = server.post(RESPONSES, "hi", stream=True)
        streamed = events(RESPONSES, data)[-1]["response"]
        for answer in (document, streamed):
            answer.pop("created_at")
        self.assertEqual(document, streamed)
        self.assertNotIn("encrypted_content", document["output"][0])

    def test_chat_sends_chunks_usage_and_done(self):
        server = self.serve(FULL)
        _, headers, data = server.post(CHAT, [user("hi")], stream=True, stream_options={"include_usage": True})
        self.assertTrue(headers["Content-Type"].startswith("text/event-stream"))
        *chunks, done = events(CHAT, data)
        self.assertEqual("[DONE]", done)
        *rest, usage = chunks
        self.assertEqual([], usage["choices"])
        self.assertEqual((1200, 30, 1230), tuple(usage["usage"][n] for n in
                                                 ("prompt_tokens", "completion_tokens", "total_tokens")))
        self.assertEqual(1000, usage["usage"]["prompt_tokens_details"]["cached_tokens"])
        self.assertTrue(all(c["usage"] is None and c["object"] == "chat.completion.chunk" for c in rest))
        choices = [c["choices"][0] for c in rest]
        self.assertEqual("assistant", choices[0]["delta"]["role"])
        self.assertEqual([None] * (len(choices) - 1) + ["tool_calls"], [c["finish_reason"] for c in choices])
        self.assertEqual(SAY, "".join(c["delta"].get("content", "") for c in choices))
        self.assertEqual("Think about step 0.", "".join(c["delta"].get("reasoning_content", "") for c in choices))
        calls = {}
        for piece in (p for c in choices for p in c["delta"].get("tool_calls", [])):
            call = calls.setdefault(piece["index"], {"id": piece.get("id"), "name": piece["function"].get("name"), "a": ""})
            call["a"] += piece["function"]["arguments"]
        self.assertEqual(["exec_command", "update_plan"], [calls[i]["name"] for i in (0, 1)])
        self.assertEqual(ARGUMENTS, [calls[i]["a"] for i in (0, 1)])
        self.assertEqual(2, len({c["id"] for c in calls.values()}))

    def test_chat_sends_no_usage_unless_asked(self):
        server = self.serve(FULL)
        _, _, data = server.post(CHAT, [user("hi")], stream=True)
        *chunks, done = events(CHAT, data)
        self.assertEqual("[DONE]", done)
        self.assertTrue(all("usage" not in c and c["choices"] for c in chunks))

    def test_chat_document(self):
        answer = self.serve(FULL).ask(CHAT, [user("hi")])
        choice = answer["choices"][0]
        self.assertEqual(("chat.completion", "tool_calls", SAY),
                         (answer["object"], choice["finish_reason"], choice["message"]["content"]))
        self.assertEqual(ARGUMENTS, [c["function"]["arguments"] for c in choice["message"]["tool_calls"]])
        self.assertEqual(1200, answer["usage"]["prompt_tokens"])

    def test_a_reply_that_ends_at_its_limit(self):
        server = self.serve({"steps": [{"say": "half a", "finish": "length"}]})
        answer = server.ask(RESPONSES, "hi")
        self.assertEqual(("incomplete", {"reason": "max_output_tokens"}), (answer["status"], answer["incomplete_details"]))
        _, _, data = server.post(RESPONSES, "hi", stream=True)
        self.assertEqual("response.incomplete", events(RESPONSES, data)[-1]["type"])
        self.assertEqual("length", server.ask(CHAT, [user("hi")])["choices"][0]["finish_reason"])

    def test_usage_of_a_step_wins_and_is_estimated_where_none_is_given(self):
        server = self.serve({"steps": [{"say": "a", "usage": {"input_tokens": 5, "output_tokens": 2}}]})
        self.assertEqual(7, server.ask(RESPONSES, "hi")["usage"]["total_tokens"])
        server = self.serve({"steps": [{"say": "a"}]})
        small = server.ask(RESPONSES, "hi")["usage"]["input_tokens"]
        large = server.ask(RESPONSES, "hi" * 4000)["usage"]["input_tokens"]
        self.assertTrue(0 < small < 100 < 1900 < large, (small, large))

    def test_pieces_never_split_a_character_and_lose_nothing(self):
        text = "€😀é" * 500 + " \n\t\"\\ " + "x" * 3000
        server = self.serve({"steps": [{"say": text, "call": {"tool": "t", "arguments": {"a": text}}}]})
        found = events(RESPONSES, server.post(RESPONSES, "hi", stream=True)[2])
        deltas = [e["delta"] for e in found if e["type"] == "response.output_text.delta"]
        self.assertEqual(text, "".join(deltas))
        self.assertLess(len(deltas), 400)
        arguments = "".join(e["delta"] for e in found if e["type"] == "response.function_call_arguments.delta")
        self.assertEqual({"a": text}, json.loads(arguments))

    def test_pace_sends_the_pieces_apart_and_delay_holds_the_reply(self):
        server = self.serve({"steps": [{"say": "word " * 20, "pace_ms": 20, "delay_ms": 200}]})
        began = time.monotonic()
        with server.connect() as s:
            send(s, RESPONSES, body(RESPONSES, "hi", stream=True))
            first = s.recv(1 << 16)
            self.assertGreaterEqual(time.monotonic() - began, 0.19)
            self.assertIn(b"output_text.delta", first)
            self.assertNotIn(b"output_text.done", first)
            read_until(s, b"response.completed")
        self.assertGreaterEqual(time.monotonic() - began, 0.2 + 6 * 0.02)


class Steps(Rehearsal):
    def test_the_step_is_the_number_of_assistant_turns(self):
        server = self.serve({"steps": [{"say": f"s{i}"} for i in range(6)]})
        for wire in self.both():
            items = [user("go")]
            self.assertEqual("s0", server.said(wire, items))
            items += turn(wire, text="I look", calls=["a", "b"], outputs=["1", "2"], reasoning="hm")
            self.assertEqual("s1", server.said(wire, items), "reasoning, message and parallel calls are one turn")
            items += turn(wire, calls=["c"], outputs=["3"])
            self.assertEqual("s2", server.said(wire, items))
            items += turn(wire, text="all done")
            items += [user("and now this")]
            self.assertEqual("s3", server.said(wire, items))
            items += turn(wire, text="partial") + [{"role": "developer", "content": "a note"}]
            self.assertEqual("s4", server.said(wire, items))
            items += [user("two"), user("users")]
            self.assertEqual("s4", server.said(wire, items), "users alone are no turn")
            self.assertEqual("s0", server.said(wire, [user("go")]), "it keeps no state")

    def test_repeat_counts_and_k_is_the_step(self):
        server = self.serve({"steps": [{"say": "start"},
                                       {"say": "at {k}", "call": {"tool": "t{k}", "arguments": {"a{k}": "{k}-{k}"}},
                                        "repeat": 3}, {"say": "end {k}"}]})
        for wire in self.both():
            items, said = [user("go")], []
            for i in range(5):
                said.append(server.said(wire, items))
                items += turn(wire, text="x", calls=[f"c{i}"], outputs=["o"])
            self.assertEqual(["start", "at 1", "at 2", "at 3", "end 4"], said)
        call = server.ask(RESPONSES, [user("go")] + responses_turn(text="x") + [user("y")])["output"][1]
        self.assertEqual(("t1", '{"a1":"1-1"}'), (call["name"], call["arguments"]))

    def test_behind_the_last_step_is_a_clear_error(self):
        server = self.serve({"steps": [{"say": "only"}]})
        for wire in self.both():
            items = [user("go")] + turn(wire, text="only") + [user("more")]
            status, _, error = server.error(wire, items, stream=True)
            self.assertEqual((400, "invalid_request_error"), (status, error["type"]))
            self.assertIn("the script has no step 1", error["message"])

    def test_the_same_request_gets_the_same_bytes_but_the_time(self):
        server = self.serve(FULL)
        answers = []
        for _ in range(2):
            answer = server.ask(RESPONSES, "hi")
            answer.pop("created_at")
            answers.append(answer)
        self.assertEqual(*answers)

    def test_one_wire_only_and_models(self):
        server = self.serve({"steps": [{"say": "a"}]}, "--wire", CHAT)
        self.assertEqual("a", server.said(CHAT, [user("x")]))
        status, _, error = server.error(RESPONSES, "x")
        self.assertEqual(404, status)
        self.assertIn("POST /v1/chat/completions", error["message"])
        self.assertNotIn("POST /v1/responses,", error["message"])
        status, _, data = server.request("GET", "/v1/models")
        self.assertEqual((200, "list"), (status, json.loads(data)["object"]))


class Expectations(Rehearsal):
    def check(self, expect, items_of, good):
        server = self.serve({"steps": [{"say": "first"}, {"say": "ok", "expect": expect}]})
        for wire in self.both():
            items = items_of(wire)
            if good:
                self.assertEqual("ok", server.said(wire, items))
                continue
            status, _, error = server.error(wire, items, stream=True)
            self.assertEqual((400, "expectation_failed", "invalid_request_error"), (status, error["code"], error["type"]))
            yield error["message"]

    def passes(self, expect, items_of):
        self.assertEqual([], list(self.check(expect, items_of, True)))

    def fails(self, expect, items_of):
        messages = list(self.check(expect, items_of, False))
        self.assertEqual(2, len(messages))
        return messages[0]

    @staticmethod
    def outputs(*outputs):
        return lambda wire: [user("go")] + turn(wire, text="x", calls=[f"c{i}" for i in range(len(outputs))],
                                                outputs=outputs)

    def test_last_output(self):
        self.passes({"last_output_matches": "FAIL(ED)?: [0-9]+$"}, self.outputs("one", "x\nFAILED: 12\nbye"))
        self.passes({"last_output_matches": "^b$"}, self.outputs("a\nb\nc"))
        message = self.fails({"last_output_matches": "FAIL"}, self.outputs("FAIL", "all is well"))
        for part in ("step 1", "script.yaml:1", "last_output_matches", "FAIL", "all is well"):
            self.assertIn(part, message)
        self.fails({"last_output_matches": "a.b"}, self.outputs("a\nb"))

    def test_last_output_of_parts(self):
        parts = [{"type": "input_text", "text": "one "}, {"type": "input_text", "text": "two"}]
        self.passes({"last_output_matches": "^one two$"}, self.outputs(parts))

    def test_no_output_at_all(self):
        message = self.fails({"last_output_matches": "."}, lambda wire: [user("a")] + turn(wire, text="x") + [user("b")])
        self.assertIn("no tool output", message)

    def test_any_output(self):
        self.passes({"any_output_matches": "tw."}, self.outputs("one", "two", "three"))
        self.fails({"any_output_matches": "tw[^o]"}, self.outputs("one", "two", "three"))

    def test_last_user(self):
        items = lambda wire: [user("a")] + turn(wire, text="x") + [user("use the iterator")]  # noqa: E731
        self.passes({"last_user_matches": "iterator$"}, items)
        self.assertIn("use the iterator", self.fails({"last_user_matches": "^a$"}, items))

    def test_request(self):
        self.passes({"request_matches": '"model": *"m"'}, self.outputs("x"))
        self.fails({"request_matches": '"model": *"n"'}, self.outputs("x"))

    def test_all_of_several_must_hold(self):
        self.passes({"last_output_matches": "x", "request_matches": "go"}, self.outputs("x"))
        self.fails({"last_output_matches": "x", "request_matches": "stay"}, self.outputs("x"))

    def test_k_and_output_with_nul_and_large(self):
        self.passes({"last_output_matches": "^line {k}$"}, self.outputs("x\nline 1\n"))
        self.passes({"last_output_matches": "behind$"}, self.outputs("a\0b behind"))
        message = self.fails({"last_output_matches": "absent"}, self.outputs("é" * 100000 + "END"))
        self.assertIn("END", message)
        self.assertLess(len(message), 2000)


class Faults(Rehearsal):
    def script(self, *faults, **more):
        return {"steps": [*({"fault": f} for f in faults), {"say": "word " * 40, **more}]}

    def test_status_with_retry_after_happens_so_many_times(self):
        for wire in self.both():
            server = self.serve(self.script({"status": 429, "retry_after_s": 7, "times": 2}))
            for _ in range(2):
                status, headers, error = server.error(wire, [user("go")], stream=True)
                self.assertEqual((429, "7", "rate_limit_exceeded"), (status, headers["Retry-After"], error["code"]))
            self.assertIn("word", server.said(wire, [user("go")]))
            self.assertIn("word", server.said(wire, [user("go")]))

    def test_conversations_do_not_disturb_each_other(self):
        server = self.serve(self.script({"status": 503}))
        for key in ("a", "b"):
            self.assertEqual(503, server.post(RESPONSES, "go", prompt_cache_key=key)[0])
        for key in ("a", "b"):
            self.assertEqual(200, server.post(RESPONSES, "go", prompt_cache_key=key)[0])
        self.assertEqual([503, 503, 200, 200], [server.post(CHAT, [user(t)])[0] for t in ("x", "y", "x", "y")])

    def test_faults_in_a_row_and_in_a_step(self):
        server = self.serve(self.script({"status": 500}, {"status": 529, "message": "too much", "code": "overloaded"},
                                        fault={"status": 418, "times": 2}))
        answers = [server.post(RESPONSES, "go") for _ in range(5)]
        self.assertEqual([500, 529, 418, 418, 200], [a[0] for a in answers])
        error = json.loads(answers[1][2])["error"]
        self.assertEqual(("too much", "overloaded"), (error["message"], error["code"]))

    def test_a_fault_is_no_step_and_a_repeat_keeps_it_to_the_first(self):
        server = self.serve({"steps": [{"say": "a"}, {"fault": {"status": 500}}, {"say": "b{k}", "repeat": 2}]})
        items = [user("go")]
        seen = []
        for _ in range(4):
            status, _, data = server.post(CHAT, items)
            seen.append(status)
            if status == 200:
                items += chat_turn(text="x", calls=["c"], outputs=["o"])
        self.assertEqual([200, 500, 200, 200], seen)
        server = self.serve({"steps": [{"say": "b", "repeat": 2, "fault": {"status": 500}}]})
        items = [user("go")]
        self.assertEqual([500, 200], [server.post(CHAT, items)[0] for _ in range(2)])
        items += chat_turn(text="x", calls=["c"], outputs=["o"])
        self.assertEqual([500, 200], [server.post(CHAT, items)[0] for _ in range(2)], "an own fault meets every repetition")

    def test_a_fault_behind_the_last_step(self):
        server = self.serve({"steps": [{"say": "a"}, {"fault": {"status": 500, "times": 2}}]})
        items = [user("go")] + chat_turn(text="a") + [user("more")]
        self.assertEqual([500, 500, 400], [server.post(CHAT, items)[0] for _ in range(3)])

    def test_cut(self):
        for wire in self.both():
            for at in (0, 1, 700):
                server = self.serve(self.script({"cut_after_bytes": at}))
                with server.connect() as s:
                    send(s, wire, body(wire, [user("go")], stream=True))
                    response = http.client.HTTPResponse(s)
                    response.begin()
                    self.assertEqual(200, response.status)
                    with self.assertRaises(http.client.IncompleteRead) as caught:
                        response.read()
                    self.assertEqual(at, len(caught.exception.partial))
                self.assertIn("word", server.said(wire, [user("go")]))

    def test_stall(self):
        server = self.serve(self.script({"stall_ms": 700}))
        with server.connect() as s:
            send(s, RESPONSES, body(RESPONSES, "go", stream=True))
            data = read_until(s, b"output_text.delta")
            began = time.monotonic()
            self.assertNotIn(b"output_text.done", data)
            read_until(s, b"response.completed")
            self.assertGreaterEqual(time.monotonic() - began, 0.6)

    def test_stall_then_cut(self):
        server = self.serve(self.script({"stall_ms": 300, "cut_after_bytes": 900}))
        with server.connect() as s:
            began = time.monotonic()
            send(s, RESPONSES, body(RESPONSES, "go", stream=True))
            response = http.client.HTTPResponse(s)
            response.begin()
            with self.assertRaises(http.client.IncompleteRead) as caught:
                response.read()
            self.assertEqual(900, len(caught.exception.partial))
            self.assertGreaterEqual(time.monotonic() - began, 0.29)

    def test_malformed(self):
        for wire in self.both():
            server = self.serve(self.script({"malformed": True}, {"malformed": "not even close"}))
            for text in (None, b"data: not even close\n\n"):
                _, _, data = server.post(wire, [user("go")], stream=True)
                bad = []
                for line in data.split(b"\n"):
                    if line.startswith(b"data: ") and line != b"data: [DONE]":
                        try:
                            json.loads(line[6:])
                        except ValueError:
                            bad.append(line)
                self.assertEqual(1, len(bad))
                if text:
                    self.assertIn(text, data)
            events(wire, server.post(wire, [user("go")], stream=True)[2])


class Validation(Rehearsal):
    """What the real providers refuse is refused here too: a client that is wrong must not pass its rehearsal."""

    def setUp(self):
        super().setUp()
        self.server = self.serve({"steps": [{"say": "a"}, {"say": "b"}]})

    def refused(self, wire, items, part, **more):
        status, _, error = self.server.error(wire, items, **more)
        self.assertEqual((400, "invalid_request_error"), (status, error["type"]))
        self.assertIn(part, error["message"])

    def test_calls_and_outputs_must_pair(self):
        call = responses_turn(calls=["c1"], outputs=[])
        self.refused(RESPONSES, [user("x")] + call, "No tool output found for function call c1")
        self.refused(RESPONSES, [user("x")] + responses_turn(calls=["c1"], outputs=["o"])[1:], "No tool call found")
        self.refused(CHAT, [user("x")] + chat_turn(calls=["c1"], outputs=[]), "did not have response messages: c1")
        self.refused(CHAT, [user("x")] + chat_turn(calls=["c1"], outputs=[]) + [user("y")], "c1")
        self.refused(CHAT, [user("x")] + chat_turn(calls=["c1"], outputs=["o"])[1:], "role 'tool'")

    def test_shape(self):
        self.refused(RESPONSES, None, "'input'")
        self.refused(CHAT, [], "'messages'")
        for data in (b"", b"{", b"[]", b"nonsense", b'{"model": 1, "input": "x"}', b'{"input": "x"}', b"[" * 100000):
            status, _, answer = self.server.request("POST", PATHS[RESPONSES], data)
            self.assertEqual(400, status, data[:40])
            self.assertTrue(json.loads(answer)["error"]["message"])
