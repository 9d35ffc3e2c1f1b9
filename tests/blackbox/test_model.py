"""The model client: what goes over the wire, byte by byte, and what happens when the other side misbehaves."""
import json
import re
import socket
import threading
import time
import unittest

from lib import KEY, Case, RpcError, call, poll, sh

WIRES = ("openai-responses", "openai-chat")


def end_of_items(request):
    """Where the last item of the input ends in the body: the prefix that the next request must begin with."""
    text = request.body.decode()
    name = "messages" if request.wire == "openai-chat" else "input"
    for match in re.finditer(r'"%s"\s*:\s*(?=\[)' % name, text):  # the name may be in a tool's schema too
        items, end = json.JSONDecoder().raw_decode(text, match.end())
        if items == request.json[name]:
            return len(text[:end - 1].rstrip().encode())
    raise AssertionError(f"no {name} in the body")


class Wire(Case):
    def test_a_task_over_each_wire(self):
        for wire in WIRES:
            with self.subTest(wire=wire):
                c, task = self.run_task([{"say": "I look.", "calls": [sh("echo out; exit 3")]}, {"say": "All done."}],
                                        wire=wire, prompt="Look at it.")
                first, second = self.m.requests
                self.assertEqual("/v1/chat/completions" if wire == "openai-chat" else "/v1/responses", first.path)
                self.assertEqual(f"Bearer {KEY}", first.headers["authorization"])
                self.assertIn("application/json", first.headers["content-type"])
                self.assertEqual(("test-model", True), (first.json["model"], first.json["stream"]))
                self.assertTrue(any("Look at it." in t for t in first.texts()))
                self.assertEqual(1, len(second.outputs()))
                self.assertIn("out\n", second.outputs()[0])
                self.assertIn("3", second.outputs()[0])
                self.assertEqual(["call_1_0"], second.output_ids())
                self.assertEqual(["I look.", "All done."], [e["text"] for e in c.of(task, "message")])
                self.assertEqual(["commentary", "final"], [e["phase"] for e in c.of(task, "message")])
                ended = c.wait_event(task, "turn.ended")
                self.assertEqual((1, "completed", "All done."), (ended["turn"], ended["outcome"], ended["text"]))
                self.assertEqual(["tool_calls", "stop"], [e["finish"] for e in c.of(task, "step.ended")])

    def test_the_tools_are_offered(self):
        for wire in WIRES:
            c, task = self.run_task([{"say": "x"}], wire=wire)
            tools = self.m.requests[0].json["tools"]
            if wire == "openai-chat":
                self.assertTrue(all(t["type"] == "function" for t in tools))
                tools = [t["function"] for t in tools]
            self.assertLessEqual({"exec_command", "write_stdin", "apply_patch", "update_plan", "view_image"}, {t["name"] for t in tools})
            for tool in tools:
                self.assertTrue(tool["description"])
                self.assertEqual("object", tool["parameters"]["type"])

    def test_the_prompt_is_append_only(self):
        """Law 6, judged from the wire: each body begins with the bytes of the one before, to the end of its items."""
        for wire in WIRES:
            with self.subTest(wire=wire):
                steps = [{"say": f"step {i} \u00e4\u4e16", "reasoning": f"because {i}", "calls": [sh(f"echo {i}"), sh("printf '\\377\\000'")]}
                         for i in range(6)] + [{"say": "done"}, {"say": "again", "calls": [sh("true")]}, {"say": "end"}]
                self.daemon(steps, wire=wire)
                c = self.d.client()
                task = c.create(self.d.workspace, keep_open=True)
                c.wait_event(task, "turn.ended")
                c.call("task/steer", task=task, text="go on \u2603")
                c.wait_event(task, "turn.ended", n=2)
                started = c.of(task, "step.started")
                self.assertEqual(9, len(started))
                self.assertEqual(9, len(self.m.requests))
                before = None
                for event, request in zip(started, self.m.requests):
                    self.assertEqual(event["request_bytes"], len(request.body))
                    if before:
                        end = end_of_items(before)
                        self.assertEqual(before.body[:end], request.body[:end])
                        self.assertGreaterEqual(event["prefix_bytes"], end - 1)
                        self.assertEqual(before.body[:event["prefix_bytes"]], request.body[:event["prefix_bytes"]])
                        self.assertGreater(len(request.items), len(before.items))
                    before = request
                self.assertEqual(1, len(c.of(task, "context.epoch")))
                head = self.m.requests[0].body
                self.assertLess(head.index(b'"tools"'), head.index(b'"messages"' if wire == "openai-chat" else b'"input"'))

    def test_the_prefix_survives_a_restart(self):
        self.daemon([{"say": f"{i}", "calls": [sh(f"echo {i}")]} for i in range(3)] + [{"say": "x"}, {"say": "y"}])
        c = self.d.client()
        task = c.create(self.d.workspace, keep_open=True)
        c.wait_event(task, "turn.ended")
        self.d.stop()
        self.d.start()
        c = self.d.client()
        c.subscribe(task=task, after_seq=0)
        c.call("task/steer", task=task, text="go on")
        c.wait_event(task, "turn.ended", n=2)
        last, new = self.m.requests[-2:]
        self.assertEqual(last.body[:end_of_items(last)], new.body[:end_of_items(last)])
        self.assertGreaterEqual(c.of(task, "step.started")[-1]["prefix_bytes"], end_of_items(last) - 1)

    def test_what_the_provider_sent_returns_as_it_was(self):
        """Unknown members, odd numbers and escapes included: bytes, not values."""
        item = ('{"type":"reasoning","id":"rs_9","summary":[],"encrypted_content":"a\\/b\\u00e9==","x_score":1.10,'
                '"x_big":12345678901234567890,"x_null":"\\u0000"}')
        message = '{"id":"msg_9",  "type":"message","role":"assistant","content":[{"type":"output_text","text":"hm","annotations":[]}]}'
        function = '{"type":"function_call","id":"fc_9","call_id":"call_9","name":"exec_command","arguments":"{\\"cmd\\": \\"true\\"}"}'
        raw = b""
        for i, text in enumerate((item, message, function)):
            raw += (f'data: {{"type":"response.output_item.done","output_index":{i},"item":{text}}}\n\n').encode()
        raw += (f'data: {{"type":"response.completed","response":{{"id":"r","status":"completed","output":[{item},{message},{function}],'
                f'"usage":{{"input_tokens":1,"output_tokens":1,"total_tokens":2}}}}}}\n\n').encode()
        self.run_task([{"raw": raw}, {"say": "ok"}])
        body = self.m.requests[1].body
        for text in (item, message, function):
            self.assertIn(text.encode(), body)

    def test_unknown_events_and_odd_streams_are_fine(self):
        noise = (b": comment\r\n\r\nevent: response.new_thing\r\ndata: {\"type\":\"response.new_thing\",\"x\":[1,2]}\r\n\r\n"
                 b"id: 7\nretry: 10\n\n")
        body = (b'data: {"type":"response.output_item.done","output_index":0,"item":{"type":"new_sort","id":"n"}}\n\n'
                b'data: {"type":"response.output_item.done","output_index":1,"item":{"type":"message","id":"m","role":"assistant",'
                b'"content":[{"type":"output_text","text":"fine"}]}}\r\r'
                b'data: {"type":"response.completed",\ndata: "response":{"id":"r","status":"completed","usage":{"input_tokens":1,'
                b'"output_tokens":1,"total_tokens":2}}}\n\n')
        c, task = self.run_task([{"raw": noise + body}])
        self.assertEqual("fine", c.of(task, "message")[0]["text"])

    def test_usage_and_cost_add_up(self):
        use = [dict(input_tokens=1000 * i, cached_input_tokens=400 * i, output_tokens=77 * i, reasoning_tokens=7 * i) for i in (1, 2, 3)]
        for wire in WIRES:
            c, task = self.run_task([{"calls": [sh("true")], "usage": use[0]}, {"calls": [sh("true")], "usage": use[1]},
                                     {"say": "x", "usage": use[2]}], wire=wire)
            got = c.call("task/get", task=task)["task"]
            total = {k: sum(u[k] for u in use) for k in use[0]}
            cost = ((total["input_tokens"] - total["cached_input_tokens"]) * 1.75 + total["cached_input_tokens"] * 0.175
                    + total["output_tokens"] * 14.0) / 1e6
            self.assertEqual(total, {k: got["usage"][k] for k in total})
            self.assertAlmostEqual(cost, got["usage"]["cost_usd"], places=8)
            self.assertEqual(use, [{k: e["usage"][k] for k in use[0]} for e in c.of(task, "step.ended")])
            self.assertAlmostEqual(cost, sum(e["usage"]["cost_usd"] for e in c.of(task, "step.ended")), places=8)
            self.assertEqual((1, 3, 2), (got["turns"], got["steps"], got["runs"]))

    def test_a_large_request(self):
        """NullClaw dies when a body passes 128 KiB."""
        prompt = "word \u00e4 " * 60000
        self.run_task([{"say": "x" * 300000}], prompt=prompt)
        self.assertTrue(any(prompt in t for t in self.m.requests[0].texts()))


class Parallel(Case):
    def test_calls_of_one_response_run_at_the_same_time(self):
        """Each waits for the other's file: one after the other they would never end."""
        meet = "touch {a}; n=0; while [ ! -e {b} ]; do sleep 0.02; done; echo met"
        for wire in WIRES:
            c, task = self.run_task([{"calls": [sh(meet.format(a="a", b="b"), yield_ms=50000),
                                                sh(meet.format(a="b", b="c"), yield_ms=50000),
                                                sh(meet.format(a="c", b="a"), yield_ms=50000)]}, {"say": "x"}], wire=wire)
            self.assertEqual(3, len([o for o in self.m.requests[1].outputs() if "met" in o]))
            self.assertEqual(["call_1_0", "call_1_1", "call_1_2"], sorted(self.m.requests[1].output_ids()))

    def test_each_output_goes_to_its_call(self):
        calls = [sh(f"sleep 0.{9 - i}; echo number-{i}", yield_ms=50000) for i in range(9)]
        self.run_task([{"calls": calls}, {"say": "x"}])
        second = self.m.requests[1]
        got = dict(zip(second.output_ids(), second.outputs()))
        for i in range(9):
            self.assertIn(f"number-{i}\n", got[f"call_1_{i}"])

    def test_many_tasks_at_once(self):
        self.daemon(lambda r: {"say": "done"} if len(r.outputs()) == 2 else {"calls": [sh("echo x")]})
        c = self.d.client()
        c.subscribe(after_pos=0)
        tasks = [c.call("task/create", prompt=f"t{i}", workspace=str(self.d.workspace))["task"] for i in range(20)]
        for task in tasks:
            c.wait_state(task, "completed", timeout_s=120)
        self.assertEqual(60, len(self.m.requests))


class Faults(Case):
    def retried(self, *faults, times=None, wire="openai-responses", limits=None):
        c, task = self.run_task([*faults, {"say": "finally"}], wire=wire, limits=limits)
        retries = c.of(task, "step.retry")
        self.assertEqual(len(faults), len(retries))
        self.assertEqual(list(range(1, len(faults) + 2)), [e["attempt"] for e in c.of(task, "step.started")])
        self.assertEqual(["finally"], [e["text"] for e in c.of(task, "message")])
        self.assertEqual(1, len({r.body for r in self.m.requests}), "a retry sends the same bytes")
        self.assertTrue(all(r["reason"] for r in retries))
        return c, task, retries

    def test_429_waits_as_long_as_it_says(self):
        c, task, retries = self.retried({"status": 429, "headers": {"Retry-After": "2"}})
        self.assertGreaterEqual(self.m.requests[1].at - self.m.requests[0].at, 1.9)
        self.assertRegex(retries[0]["reason"].lower(), "429|rate")

    def test_429_without_a_time_and_5xx(self):
        for status in (429, 500, 502, 503, 529):
            with self.subTest(status=status):
                self.retried({"status": status}, {"status": status})

    def test_back_off_grows(self):
        self.retried(*[{"status": 500}] * 5, limits={"retry_ms_min": 100, "retry_ms_max": 100000})
        at = [r.at for r in self.m.requests]
        gaps = [b - a for a, b in zip(at, at[1:])]
        self.assertGreater(gaps[4], gaps[0])
        self.assertGreater(sum(gaps), 0.7)

    def test_a_cut_stream(self):
        for wire in WIRES:
            self.retried({"say": "half of it", "cut": True}, {"reset": True}, wire=wire)

    def test_an_end_without_completion(self):
        whole = b'data: {"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"m","role":"assistant",' \
                b'"content":[{"type":"output_text","text":"hm"}]}}\n\n'
        self.retried({"raw": whole}, {"raw": b""})

    def test_a_stream_that_cannot_be_read(self):
        self.retried({"raw": b"data: {not json\n\n"}, {"raw": b"data: " + b"[" * 5000 + b"\n\n"},
                     {"raw": b'data: {"type":"response.completed","response":"\xff\xfe"}\n\n'})

    def test_a_call_of_a_cut_stream_never_runs(self):
        mark = 'data: {"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","id":"f","call_id":"c",' \
               '"name":"exec_command","arguments":"{\\"cmd\\":\\"touch ran\\"}"}}\n\n'
        self.retried({"raw": mark.encode()})
        self.assertFalse((self.d.workspace / "ran").exists())

    def test_an_error_inside_the_stream(self):
        failed = {"type": "response.failed", "response": {"id": "r", "status": "failed",
                                                         "error": {"code": "server_error", "message": "the model is overloaded"}}}
        error = {"type": "error", "code": "server_error", "message": "something went wrong", "param": None, "sequence_number": 1}
        self.retried({"raw": b"data: " + json.dumps(failed).encode() + b"\n\n"},
                     {"raw": b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"})

    def test_a_stalled_stream(self):
        self.retried({"say": "half and no more", "stall": True}, limits={"stall_ms_max": 1000})

    def test_nobody_listens(self):
        """The server is not there yet: an outage is a wait."""
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        self.daemon(config=None)
        self.d.stop()
        self.d.write_config(f"http://127.0.0.1:{port}/v1")
        self.d.start()
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_event(task, "step.retry", n=3)
        server = self.model([{"say": "here I am"}])
        relay = Relay(port, server.port)
        self.addCleanup(relay.close)
        c.wait_state(task, "completed")

    def test_a_request_that_is_refused_fails_the_turn(self):
        body = '{"error":{"message":"the model test-model does not exist","type":"invalid_request_error"}}'
        c, task = self.run_task([{"status": 400, "body": body}], until=("failed",))
        self.assertEqual("failed", c.wait_event(task, "turn.ended")["outcome"])
        seen = json.dumps(c.journal(task))
        self.assertIn("does not exist", seen)
        self.assertEqual(1, len(self.m.requests))
        # New input opens it again.
        self.m.steps += [{"say": "better"}]
        c.call("task/steer", task=task, text="try again")
        c.wait_state(task, "completed")

    def test_bad_credentials_wait_for_a_person(self):
        c, task = self.run_task([{"status": 401}, {"say": "in"}], until=("waiting",))
        self.assertEqual("credentials", c.of(task, "task.state")[-1]["waiting"]["for"])
        c.call("task/resume", task=task)
        c.wait_state(task, "completed")

    def test_during_a_back_off_the_task_says_so(self):
        self.daemon([{"status": 503, "headers": {"Retry-After": "60"}}, {"say": "x"}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        retry = c.wait_event(task, "step.retry")
        self.assertGreater(retry["next_at"], retry["at"])
        self.assertTrue(c.call("task/get", task=task)["task"]["activity"])
        c.call("task/cancel", task=task)
        c.wait_state(task, "cancelled")
        self.assertEqual(1, len(self.m.requests))

    def test_calls_that_make_no_sense_are_answered(self):
        calls = [call("no_such_tool", x=1), ("exec_command", "{not json"), ("exec_command", "[1,2]"), ("exec_command", "{}"),
                 ("exec_command", {"cmd": 5}), ("exec_command", {"cmd": "true", "yield_time_ms": "soon"}),
                 ("write_stdin", {"session_id": 99, "chars": "x"}), ("apply_patch", {"input": "nonsense"}), ("update_plan", {"plan": 7}),
                 ("view_image", {"path": "/nonexistent.png"}), ("exec_command", ""), ("exec_command", {"cmd": "a\0b"})]
        for wire in WIRES:
            c, task = self.run_task([{"calls": calls}, {"say": "oh"}], wire=wire)
            results = {e["call"]: e for e in c.of(task, "tool.result")}
            self.assertEqual(len(calls), len(results))
            for called in c.of(task, "tool.called"):
                self.assertTrue(results[called["call"]]["is_error"], called)
                self.assertTrue(results[called["call"]]["output"])
            self.assertEqual(len(calls), len(self.m.requests[1].outputs()))


class Relay:
    """Forwards a port that was free before to a server that came later."""

    def __init__(self, port, to):
        self.listener, self.to = socket.create_server(("127.0.0.1", port)), to
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.pipe, args=(a, b), daemon=True).start()

    @staticmethod
    def pipe(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


class Control(Case):
    def test_cancel_aborts_the_transfer_at_once(self):
        mid = threading.Event()
        self.daemon([{"say": "long " * 100, "mid": mid}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_for(lambda: c.deltas, what="the stream to begin")
        began = time.monotonic()
        c.call("task/cancel", task=task)
        self.assertTrue(self.m.requests[0].closed.wait(10), "the server was not hung up on")
        self.assertLess(time.monotonic() - began, 2)
        c.wait_state(task, "cancelled")
        self.assertEqual("cancelled", c.wait_event(task, "turn.ended")["outcome"])
        with self.assertRaises(RpcError) as caught:
            c.call("task/pause", task=task)
        self.assertEqual("bad_state", caught.exception.name)
        mid.set()

    def test_cancel_before_the_first_byte(self):
        gate = threading.Event()
        self.daemon([{"say": "x", "gate": gate}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        self.m.wait_requests(1)
        c.call("task/cancel", task=task)
        self.assertTrue(self.m.requests[0].closed.wait(10))
        c.wait_state(task, "cancelled")

    def test_pause_lets_the_tool_go_on_and_the_model_wait(self):
        self.daemon([{"calls": [sh("while [ ! -e go ]; do sleep 0.02; done; echo through", yield_ms=60000)]}, {"say": "x"}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_event(task, "run.started")
        c.call("task/pause", task=task)
        c.wait_state(task, "paused")
        (self.d.workspace / "go").touch()
        c.wait_event(task, "run.ended")
        self.d.client().call("daemon/status")
        self.assertEqual(1, len(self.m.requests))
        self.assertEqual("paused", c.call("task/get", task=task)["task"]["state"])
        self.d.kill()  # it stays paused whatever happens
        self.d.start()
        c = self.d.client()
        c.subscribe(task=task, after_seq=0)
        self.assertEqual("paused", c.call("task/get", task=task)["task"]["state"])
        self.assertEqual(1, len(self.m.requests))
        c.call("task/resume", task=task)
        c.wait_state(task, "completed")
        self.assertIn("through", self.m.requests[1].outputs()[0])

    def test_keep_open_waits_for_input(self):
        c, task = self.run_task([{"say": "one"}, {"say": "two"}], until=("waiting",), keep_open=True)
        self.assertEqual("input", c.of(task, "task.state")[-1]["waiting"]["for"])
        self.d.kill()
        self.d.start()
        c = self.d.client()
        c.subscribe(task=task, after_seq=0)
        c.call("task/steer", task=task, text="more")
        c.wait_event(task, "turn.ended", n=2)
        poll(lambda: c.call("task/get", task=task)["task"]["state"] == "waiting")
        c.call("task/cancel", task=task)
        c.wait_state(task, "cancelled")


if __name__ == "__main__":
    unittest.main()
