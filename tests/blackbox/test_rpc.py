"""The socket: what a client may send, what it gets for sending nonsense, and that the others never notice."""
import json
import os
import socket
import stat
import threading
import time
import unittest

from lib import KEY, Case, Client, Closed, RpcError, poll, schema, sh


def line(**message):
    return json.dumps(message).encode() + b"\n"


class Basics(Case):
    def setUp(self):
        super().setUp()
        self.daemon()

    def assert_error(self, error_name, fn, /, *args, **kwargs):
        with self.assertRaises(RpcError) as caught:
            fn(*args, **kwargs)
        self.assertEqual(error_name, caught.exception.name, caught.exception.message)
        return caught.exception

    def raw_error(self, c, data, name, *ids):
        """Sends bytes; the answer must be that error, with one of these ids (none: null)."""
        before = len(c.problems)
        c.send_raw(data)
        found = c.wait_for(lambda: [i for i in ids or (None,) if i in c.replies], what=f"the error for {data[:60]!r}")
        reply = c.replies.pop(found[0])
        self.assertEqual(name, reply["error"]["data"]["name"], reply)
        self.assertEqual(c.problems[before:], [])

    def test_initialize_tells_who_is_there(self):
        hello = self.d.client().hello
        self.assertEqual(1, hello["protocol"])
        self.assertEqual(str(self.d.state_dir), hello["state_dir"])
        self.assertEqual("owner", hello["role"])
        self.assertEqual("agentd", hello["server"]["name"])

    def test_nothing_goes_before_initialize(self):
        c = self.d.client(initialize=False)
        for method, params in (("daemon/status", {}), ("rpc/describe", {}), ("task/list", {}),
                               ("task/create", {"prompt": "x", "workspace": "/"})):
            self.assert_error("not_initialized", c.call, method, **params)
        c.initialize()
        c.call("daemon/status")

    def test_another_protocol_is_refused(self):
        c = self.d.client(initialize=False)
        self.assert_error("protocol_unsupported", c.call, "initialize", protocol=99, client={"name": "x", "version": "1"})

    def test_describe_is_the_schema(self):
        self.assertEqual(schema.SCHEMA, self.d.client().call("rpc/describe")["schema"])

    def test_status_of_the_daemon(self):
        got = self.d.client().call("daemon/status")["daemon"]
        self.assertEqual(self.d.pid, got["pid"])
        self.assertEqual(str(self.d.socket), got["socket"])
        self.assertEqual(str(self.d.config), got["config"])
        self.assertEqual("open", got["admission"])
        self.assertGreater(got["rss_bytes"], 1 << 20)

    def test_the_socket_is_private(self):
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.d.socket).st_mode))
        self.assertEqual(0o700, stat.S_IMODE(os.stat(self.d.socket.parent).st_mode))
        self.assertEqual(0o700, stat.S_IMODE(os.stat(self.d.state_dir).st_mode))

    def test_unknown_methods(self):
        c = self.d.client()
        for method in ("task/fly", "", "initialize ", "task/create/x", "x" * 10000):
            self.assert_error("method_not_found", c.call, method)
        c.call("daemon/status")

    def test_what_cannot_be_read(self):
        c = self.d.client()
        for data in (b"nonsense\n", b"{\n", b'{"a":}\n', b"\xff\xfe{}\n", b'{"jsonrpc":"2.0","id":1,"id":2,"method":"daemon/status"}\n',
                     b'{"jsonrpc":"2.0","id":5,"method":"task/get","params":{"task":"a","task":"b"}}\n',
                     b'{"jsonrpc":"2.0","id":1,"method":"x"} trailing\n', b'"\xc3\x28"\n'):
            with self.subTest(data=data):
                self.raw_error(c, data, "parse_error")
        c.call("daemon/status")

    def test_what_is_no_request(self):
        c = self.d.client()
        for message, id in (([], None), ([{"jsonrpc": "2.0", "id": 1, "method": "daemon/status"}], None), ("text", None),
                            (17, None), ({}, None), ({"jsonrpc": "1.0", "id": "a", "method": "daemon/status"}, "a"),
                            ({"id": "b", "method": "daemon/status"}, "b"), ({"jsonrpc": "2.0", "id": "c"}, "c"),
                            ({"jsonrpc": "2.0", "id": "d", "method": 7}, "d"),
                            ({"jsonrpc": "2.0", "id": {"a": 1}, "method": "daemon/status"}, None)):
            with self.subTest(message=message):
                self.raw_error(c, json.dumps(message).encode() + b"\n", "invalid_request", id)
        c.call("daemon/status")

    def test_ids_come_back_as_they_were(self):
        c = self.d.client()
        for id in ("text", 0, -5, 9007199254740993, "\u00e4\u2603", ""):
            c.send_raw(line(jsonrpc="2.0", id=id, method="daemon/status", params={}))
            self.assertIn("result", c.wait_for(lambda id=id: c.replies.get(id), what=f"the reply {id!r}"))

    def test_params_are_checked_against_the_schema(self):
        """Every method: an unknown member, each required one missing, each of a wrong type, each beyond its bounds."""
        wrong = {"string": 5, "int": "five", "bool": "yes", "time": 7, "usd": "much", "enum": "no such value", "object": [],
                 "array": {}}
        c = self.d.client()
        for method, entry in schema.SCHEMA["methods"].items():
            if method in ("daemon/shutdown", "initialize"):
                continue
            good = {n: 1 if f["type"] == "int" else "x" for n, f in entry["params"].items() if not f.get("optional")}
            bad = [dict(good, no_such_member=1)]
            for name, field in entry["params"].items():
                kind = field["type"].partition(":")[0]
                if not field.get("optional"):
                    bad.append({k: v for k, v in good.items() if k != name})
                if kind in wrong:
                    bad.append(dict(good, **{name: wrong[kind]}))
                if kind == "int" and "min" in field:
                    bad.append(dict(good, **{name: field["min"] - 1}))
                if kind == "int" and "max" in field:
                    bad.append(dict(good, **{name: field["max"] + 1}))
                if kind == "string" and field.get("min"):
                    bad.append(dict(good, **{name: ""}))
                if kind == "string" and field.get("max", 1 << 30) <= 4096:
                    bad.append(dict(good, **{name: "x" * (field["max"] + 1)}))
            for params in bad:
                with self.subTest(method=method, params=str(params)[:100]):
                    error = self.assert_error("invalid_params", c.call, method, **params)
                    self.assertRegex(error.message, '"|member|missing')

    def test_params_must_be_an_object(self):
        c = self.d.client()
        for i, params in enumerate(([], "x", 5, True)):
            c.send_raw(line(jsonrpc="2.0", id=f"p{i}", method="daemon/status", params=params))
            reply = c.wait_for(lambda: c.replies.get(f"p{i}"))
            self.assertIn(reply["error"]["data"]["name"], ("invalid_params", "invalid_request"))

    def test_deep_nesting(self):
        c = self.d.client()
        for depth in (100, 100000):
            for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
                body = opening * depth + b"1" + closing * depth
                self.raw_error(c, b'{"jsonrpc":"2.0","id":"deep","method":"task/create","params":' + body + b"}\n", "too_deep",
                               None, "deep")
        c.call("daemon/status")

    def test_a_frame_in_pieces(self):
        c = self.d.client()
        for byte in line(jsonrpc="2.0", id="slow", method="daemon/status", params={}):
            c.send_raw(bytes([byte]))
        self.assertIn("result", c.wait_for(lambda: c.replies.get("slow")))

    def test_many_frames_in_one_piece(self):
        c = self.d.client()
        c.send_raw(b"".join(line(jsonrpc="2.0", id=f"n{i}", method="daemon/status", params={}) for i in range(500)))
        c.wait_for(lambda: all(f"n{i}" in c.replies for i in range(500)), what="500 replies")
        self.assertTrue(all("result" in c.replies[f"n{i}"] for i in range(500)))

    def test_half_a_frame_and_gone(self):
        for tail in (b'{"jsonrpc":"2.0","id":1,"met', b"\n\n\n{", b""):
            c = self.d.client()
            c.send_raw(tail) if tail else None
            c.close()
        poll(lambda: self.d.client().call("daemon/status")["daemon"]["clients"] <= 4, what="clients that went being forgotten")

    def test_a_task_that_is_not_there(self):
        c = self.d.client()
        for method in ("task/get", "task/cancel", "task/pause", "task/resume", "task/events"):
            self.assert_error("task_not_found", c.call, method, task="t01jd0000000000000000000000")
        self.assert_error("task_not_found", c.call, "task/steer", task="nobody", text="x")
        self.assert_error("task_not_found", c.call, "events/subscribe", task="@last")
        for method, more in (("task/steer", {"text": "x"}), ("task/cancel", {}), ("task/get", {}), ("events/subscribe", {})):
            with self.assertRaises(RpcError) as caught:
                c.call(method, task="nobody", **more)
            self.assertEqual('there is no task "nobody"', caught.exception.message)
            self.assertNotEqual(caught.exception.hint, caught.exception.message)
        self.assert_error("subscription_unknown", c.call, "events/unsubscribe", subscription=77)

    def test_what_a_task_cannot_be_made_of(self):
        c, here = self.d.client(), str(self.d.workspace)
        file = self.d.workspace / "file"
        file.write_text("")
        for workspace in ("relative", str(self.d.dir / "missing"), str(file)):
            self.assert_error("workspace_invalid", c.call, "task/create", prompt="x", workspace=workspace)
        self.assert_error("model_unknown", c.call, "task/create", prompt="x", workspace=here, model="other")
        self.assert_error("policy_unknown", c.call, "task/create", prompt="x", workspace=here, policy="guard")
        for name in ("-x", ".x", "@last", "a b", "a/b", "\u00e4", "x" * 65):
            self.assert_error("invalid_params", c.call, "task/create", prompt="x", workspace=here, name=name)
        self.assertEqual([], c.call("task/list", all=True)["tasks"])

    def test_env_must_be_an_object_of_strings(self):
        c = self.d.client()
        for env in ([], "PATH=/bin", {"PATH": 5}, {"PATH": None}):
            self.assert_error("invalid_params", c.call, "task/create", prompt="x", workspace=str(self.d.workspace), env=env)


class Limits(Case):
    def test_a_frame_over_the_limit(self):
        self.daemon(limits={"frame_bytes_max": 65536})
        other, c = self.d.client(), self.d.client()
        try:
            c.send_raw(line(jsonrpc="2.0", id="big", method="task/create", params={"prompt": "x" * 70000, "workspace": "/"}))
        except OSError:
            pass
        reply = c.wait_for(lambda: c.replies.get("big") or c.replies.get(None), what="an error for the frame")
        self.assertEqual("frame_too_large", reply["error"]["data"]["name"])
        other.call("daemon/status")
        self.d.client().call("daemon/status")

    def test_a_line_without_end(self):
        self.daemon(limits={"frame_bytes_max": 1048576})
        other, c = self.d.client(), self.d.client()
        before = self.d.memory_kb()
        refused = False
        try:
            for _ in range(100):
                c.send_raw(b"x" * 1048576)
        except OSError:
            refused = True  # it may hang up on who does this
        other.call("daemon/status")
        self.assertLess(self.d.memory_kb() - before, 40 << 10)
        if not refused:
            reply = c.wait_for(lambda: c.replies.get(None), what="an error for the line")
            self.assertEqual("frame_too_large", reply["error"]["data"]["name"])

    def test_more_clients_than_allowed(self):
        self.daemon(limits={"clients_max": 8})
        first = self.d.client()
        got, more = 1, []
        for _ in range(12):
            try:
                more.append(self.d.client(timeout_s=10))
                got += 1
            except (OSError, Closed):
                pass
            except RpcError as e:
                self.assertEqual("limit_reached", e.name)
        self.assertEqual(8, got)
        first.call("daemon/status")
        for c in more:
            c.close()
        poll(lambda: self.connects(), what="a free place")

    def connects(self):
        try:
            self.d.client(timeout_s=10)
            return True
        except (OSError, Closed, RpcError):
            return False

    def test_more_subscriptions_than_allowed(self):
        self.daemon(limits={"subscriptions_max": 5})
        c = self.d.client()
        subs = [c.subscribe() for _ in range(5)]
        with self.assertRaises(RpcError) as caught:
            c.subscribe()
        self.assertEqual("limit_reached", caught.exception.name)
        c.call("events/unsubscribe", subscription=subs[0])
        c.subscribe()

    def test_steers_pending_are_bounded(self):
        gate = threading.Event()
        self.daemon([{"say": "x", "gate": gate}, {"say": "y"}], limits={"steers_pending_max": 3})
        c = self.d.client()
        task = c.create(self.d.workspace)
        self.m.wait_requests(1)
        for i in range(3):
            c.call("task/steer", task=task, text=f"s{i}")
        with self.assertRaises(RpcError) as caught:
            c.call("task/steer", task=task, text="one too many")
        self.assertEqual("limit_reached", caught.exception.name)
        gate.set()
        c.wait_state(task, "completed")

    def test_more_tasks_than_may_run_are_queued(self):
        gate = threading.Event()
        self.daemon(lambda request: {"say": "x", "gate": gate}, limits={"tasks_running_max": 2})
        c = self.d.client()
        tasks = [c.create(self.d.workspace, prompt=f"task {i}") for i in range(5)]
        self.m.wait_requests(2)
        states = [c.call("task/get", task=t)["task"]["state"] for t in tasks]
        self.assertEqual(["running"] * 2 + ["queued"] * 3, states)
        c.call("task/cancel", task=tasks[3])
        c.wait_state(tasks[3], "cancelled")
        self.assertEqual(2, len(self.m.requests))
        gate.set()
        for task in tasks[:3] + tasks[4:]:
            c.wait_state(task, "completed")
        self.assertEqual(4, len(self.m.requests))

    def test_a_client_that_never_reads(self):
        """50 MB go by; it costs the daemon a cursor. When it reads, it gets every event without a gap."""
        steps = [{"say": "word " * 2000, "calls": [sh("yes 0123456789abcdef | head -c 5000000")]} for _ in range(10)]
        self.daemon(steps + [{"say": "done"}])
        lazy = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        lazy.connect(str(self.d.socket))
        self.addCleanup(lazy.close)
        lazy.sendall(line(jsonrpc="2.0", id=1, method="initialize", params={"protocol": 1, "client": {"name": "lazy", "version": "1"}}))
        for i in range(30):
            lazy.sendall(line(jsonrpc="2.0", id=2 + i, method="events/subscribe", params={"after_pos": 0, "deltas": True}))
        c = self.d.client()
        before = self.d.memory_kb()
        task = c.create(self.d.workspace)
        c.wait_state(task, "completed", timeout_s=180)
        self.assertLess(self.d.memory_kb() - before, 64 << 10)
        want = [e["seq"] for e in c.journal(task)]
        got, rest = {}, b""
        lazy.settimeout(60)
        while not all(got.get(sub, [0])[-1] == want[-1] for sub in range(1, 31)) or len(got) < 30:
            data = lazy.recv(1 << 20)
            self.assertTrue(data, "the connection was closed")
            *lines, rest = (rest + data).split(b"\n")
            for message in map(json.loads, lines):
                if message.get("method") == "event":
                    got.setdefault(message["params"]["subscription"], []).append(message["params"]["seq"])
        for sub, seqs in got.items():
            self.assertEqual(want, seqs, f"subscription {sub}")

    def test_requests_without_reading(self):
        """A client that asks and asks but never reads is held back, not remembered."""
        self.daemon()
        flood = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        flood.connect(str(self.d.socket))
        self.addCleanup(flood.close)
        flood.sendall(line(jsonrpc="2.0", id=0, method="initialize", params={"protocol": 1, "client": {"name": "f", "version": "1"}}))
        before = self.d.memory_kb()
        flood.setblocking(False)
        request = line(jsonrpc="2.0", id=1, method="rpc/describe", params={}) * 100
        sent, until = 0, time.monotonic() + 60
        stuck = 0
        while stuck < 50 and time.monotonic() < until:
            try:
                sent += flood.send(request)
                stuck = 0
            except BlockingIOError:
                stuck += 1
                self.d.client().call("daemon/status")  # others are served meanwhile
            except OSError:
                break  # or it hangs up on who does this
        self.assertLess(self.d.memory_kb() - before, 48 << 10, f"after {sent} bytes of requests")
        self.d.client().call("daemon/status")


class Keys(Case):
    """`key`: the same change again is answered the same way and done once."""

    def test_create_steer_and_cancel(self):
        gate = threading.Event()
        self.daemon([{"say": "x", "gate": gate}] * 2 + [{"say": "y"}] * 3)
        c = self.d.client()
        params = dict(prompt="p", workspace=str(self.d.workspace), key="create-1")
        first = c.call("task/create", **params)
        self.assertEqual(first, c.call("task/create", **params))
        self.assertEqual(first, self.d.client().call("task/create", **params))
        self.assertEqual(first, c.call("task/create", **params, env={"LANG": "C"}), "from another terminal")
        self.assertEqual(1, len(c.call("task/list", all=True)["tasks"]))
        steer = dict(task=first["task"], text="left", key="steer-1")
        answer = c.call("task/steer", **steer)
        self.assertEqual(answer, c.call("task/steer", **steer))
        self.assertEqual(1, len([e for e in c.journal(first["task"]) if e["kind"] == "steer.accepted"]))
        for method, changed in (("task/create", dict(params, prompt="q")), ("task/steer", dict(steer, text="right")),
                                ("task/cancel", dict(task=first["task"], key="steer-1"))):
            with self.assertRaises(RpcError) as caught:
                c.call(method, **changed)
            self.assertEqual("key_conflict", caught.exception.name)
        self.assertEqual("left", [e for e in c.journal(first["task"]) if e["kind"] == "steer.accepted"][0]["text"])
        done = c.call("task/cancel", task=first["task"], key="cancel-1")
        self.assertEqual(done, c.call("task/cancel", task=first["task"], key="cancel-1"))
        gate.set()

    def test_many_at_once_make_one(self):
        gate = threading.Event()
        self.daemon([{"say": "x", "gate": gate}])
        clients, answers = [self.d.client() for _ in range(8)], []
        ids = [(c, c.send("task/create", prompt="p", workspace=str(self.d.workspace), key="same")) for c in clients]
        answers = [c.reply(id) for c, id in ids]
        self.assertEqual([answers[0]] * 8, answers)
        self.assertEqual(1, len(clients[0].call("task/list")["tasks"]))
        clients[0].call("task/cancel", task=answers[0]["task"])
        gate.set()

    def test_they_survive_a_crash(self):
        gate = threading.Event()
        self.daemon([{"say": "x", "gate": gate}] * 2)
        c = self.d.client()
        params = dict(prompt="p", workspace=str(self.d.workspace), key="k")
        first = c.call("task/create", **params)
        self.d.kill()
        self.d.start()
        c = self.d.client()
        self.assertEqual(first, c.call("task/create", **params))
        with self.assertRaises(RpcError) as caught:
            c.call("task/create", **dict(params, prompt="other"))
        self.assertEqual("key_conflict", caught.exception.name)
        c.call("task/cancel", task=first["task"])
        gate.set()


class Names(Case):
    def test_how_a_task_is_named_and_found(self):
        gate = threading.Event()
        self.daemon(lambda request: {"say": "x", "gate": gate})
        c, here = self.d.client(), str(self.d.workspace)
        first = c.call("task/create", prompt="Fix the parser, please!", workspace=here, name="fix")["task"]
        second = c.call("task/create", prompt="Fix the parser, please!", workspace=here)["task"]
        self.assertRegex(first, r"\At[0-9a-z]{26}\Z")
        for text, want in ((first, first), ("fix", first), ("@last", second), (second[:25], None)):
            if want:
                self.assertEqual(want, c.call("task/get", task=text)["task"]["id"])
        with self.assertRaises(RpcError) as caught:
            c.call("task/create", prompt="x", workspace=here, name="fix")
        self.assertEqual("name_taken", caught.exception.name)
        with self.assertRaises(RpcError) as caught:
            c.call("task/get", task=first[:6])
        self.assertEqual("task_ambiguous", caught.exception.name)
        c.call("task/cancel", task=first)
        c.call("task/cancel", task=second)
        gate.set()
        poll(lambda: c.call("task/get", task=first)["task"]["state"] == "cancelled")
        third = c.call("task/create", prompt="x", workspace=here, name="fix")["task"]
        self.assertEqual(third, c.call("task/get", task="fix")["task"]["id"])
        poll(lambda: c.call("task/get", task=third)["task"]["state"] == "completed")

    def test_lists_go_page_by_page(self):
        self.daemon(lambda request: {"say": "x"})
        c = self.d.client()
        ids = [c.call("task/create", prompt="x", workspace=str(self.d.workspace))["task"] for _ in range(7)]
        found, after = [], None
        while True:
            page = c.call("task/list", all=True, limit=3, **({"after": after} if after else {}))
            self.assertLessEqual(len(page["tasks"]), 3)
            found += [t["id"] for t in page["tasks"]]
            after = page["next"]
            if after is None:
                break
        self.assertEqual(ids[::-1], found)
        for id in ids:
            poll(lambda: c.call("task/get", task=id)["task"]["state"] == "completed")


class KeysStaySecret(Case):
    allowed_errors = ()

    def test_a_provider_that_echoes_the_key(self):
        """Its error message holds the key; nothing that leaves the daemon may."""
        body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}.", "type": "invalid_request_error"}})
        self.daemon([{"status": 500, "body": body}, {"status": 401, "body": body}] + [{"status": 401, "body": body}] * 3)
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_state(task, "waiting")
        self.assertEqual(f"Bearer {KEY}", self.m.requests[0].headers["authorization"])
        seen = json.dumps([c.journal(task), c.call("task/get", task=task), c.call("daemon/doctor"), c.call("models/list")])
        self.assertNotIn(KEY, seen)
        self.assertNotIn(KEY, self.d.log_text())
        self.assertEqual([], self.d.find_canary())
        self.assertEqual("credentials", c.of(task, "task.state")[-1]["waiting"]["for"])
        c.call("task/cancel", task=task)

    def test_a_model_that_prints_the_environment(self):
        self.daemon([{"calls": [sh("env; cat /proc/self/environ; tr '\\0' '\\n' < /proc/$PPID/environ")]}, {"say": "ok"}])
        c = self.d.client()
        task = c.create(self.d.workspace, env={"PATH": os.environ["PATH"], "AGENTD_TEST_KEY": KEY, "OPENAI_API_KEY": KEY})
        c.wait_state(task, "completed")
        self.assertNotIn(KEY, c.of(task, "tool.result")[0]["output"])


if __name__ == "__main__":
    unittest.main()
