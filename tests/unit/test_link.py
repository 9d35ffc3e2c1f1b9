#!/usr/bin/env python3
"""agentctl against a scripted daemon: what the link does when the connection is lost, when the wrong daemon answers, when the
path is long. Usage: test_link.py AGENTCTL. Prints TAP."""
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

AGENTCTL = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "agentctl")
DEADLINE_S = 60
TASK = "t01jb0000000000000000000000"


class Connection:
    """One accepted connection. Iterating yields requests."""

    def __init__(self, sock, state_dir):
        self.sock, self.state_dir = sock, state_dir
        self.file = sock.makefile("rwb")

    def receive(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def send(self, message):
        self.file.write(json.dumps(dict(message, jsonrpc="2.0")).encode() + b"\n")
        self.file.flush()

    def reply(self, request, result):
        self.send({"id": request["id"], "result": result})

    def fail(self, request, code, name):
        self.send({"id": request["id"], "error": {"code": code, "message": f"no: {name}", "data": {"name": name, "hint": "do x"}}})

    def expect(self, method):
        request = self.receive()
        if request is None or request["method"] != method:
            raise AssertionError(f"{method} was to come, not {request}")
        return request

    def initialize(self, **more):
        self.reply(self.expect("initialize"), {
            "protocol": 1, "server": {"name": "agentd", "version": "0"}, "state_dir": str(self.state_dir), "role": "owner",
            "capabilities": [], **more})

    def event(self, seq, kind, **members):
        self.send({"method": "event", "params": dict({"subscription": 7, "seq": seq, "pos": seq, "task": TASK,
                                                     "at": "2026-01-02T03:04:05.678Z", "kind": kind}, **members)})

    def close(self):
        self.file.close()
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def task(state="running", seq=1, **more):
    return {"task": dict({"id": TASK, "name": "one", "state": state, "waiting": None, "activity": "", "workspace": "/", "model": "m",
                          "created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:06.678Z", "turns": 1, "steps": 1,
                          "runs": 0, "seq": seq, "compactions": 0, "parent": None, "usage": {}, "pending": {}}, **more)}


def state_event(c, seq, to):
    c.event(seq, "task.state", **{"from": "running", "to": to, "reason": "", "waiting": None})


class Link(unittest.TestCase):
    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.addCleanup(self.temp.cleanup)
        self.state = os.path.join(self.temp.name, "state")
        os.mkdir(self.state)
        self.error = None

    def serve(self, *scripts, path=None):
        """Each script plays one connection. The listener closes behind the last."""
        self.path = path or os.path.join(self.temp.name, "s")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder, name = os.path.split(self.path)
        fd = os.open(folder, os.O_PATH)
        listener.bind(f"/proc/self/fd/{fd}/{name}")
        os.close(fd)
        listener.listen(8)
        listener.settimeout(DEADLINE_S)

        def play():
            try:
                for script in scripts:
                    sock, _ = listener.accept()
                    sock.settimeout(DEADLINE_S)
                    c = Connection(sock, self.state)
                    script(c)
                    c.close()
            except Exception as e:  # told by finish()
                self.error = e
                self.process.kill()
            finally:
                listener.close()

        self.thread = threading.Thread(target=play, daemon=True)
        self.thread.start()

    def start(self, *args, extra=None, **more):
        env = {"PATH": os.environ["PATH"], "HOME": self.temp.name, "AGENTD_SOCKET": self.path, "AGENTD_STATE_DIR": self.state,
               "AGENTD_BIN": "/nonexistent", "SECRET_KEY": "canary", "LC_ALL": "C.UTF-8", "CFLAGS": "-O1"}
        env.update((k, v) for k, v in os.environ.items() if k.startswith(("ASAN_", "UBSAN_", "LSAN_")))
        env.update(extra or {})
        options = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=self.temp.name)
        self.process = subprocess.Popen([AGENTCTL, *args], **dict(options, **more))
        return self.process

    def finish(self, process, code=0, input=None):
        out, err = process.communicate(input, timeout=DEADLINE_S)
        self.thread.join(DEADLINE_S)
        if self.error:
            raise AssertionError(f"{self.error}\nstdout: {out.decode()}\nstderr: {err.decode()}") from self.error
        self.assertEqual(code, process.returncode, out.decode() + err.decode())
        return out.decode(), err.decode()

    def ctl(self, *args, code=0):
        return self.finish(self.start(*args), code)

    # ---- connections that are lost ----

    def test_a_keyed_change_is_sent_again_with_the_same_key(self):
        seen = []

        def first(c):
            c.initialize()
            seen.append(c.expect("task/steer")["params"])

        def second(c):
            c.initialize()
            request = c.expect("task/steer")
            seen.append(request["params"])
            c.reply(request, {"steer": "s1", "seq": 5})

        self.serve(first, second)
        out, err = self.ctl("steer", "--json", "one", "use it")
        self.assertEqual({"steer": "s1", "seq": 5}, json.loads(out))
        self.assertEqual(seen[0], seen[1])
        self.assertTrue(seen[0]["key"])
        self.assertEqual(("one", "use it", "next"), tuple(seen[0][k] for k in ("task", "text", "delivery")))

    def test_a_stopping_daemon_is_waited_out(self):
        def first(c):
            c.initialize()
            c.fail(c.expect("task/cancel"), -32010, "stopping")

        def second(c):
            c.initialize()
            c.reply(c.expect("task/cancel"), {"seq": 3})

        self.serve(first, second)
        self.assertEqual({"seq": 3}, json.loads(self.ctl("cancel", "--json", "one")[0]))

    def test_a_subscription_resumes_after_the_last_event(self):
        def first(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(seq=1))
            request = c.expect("events/subscribe")
            self.assertEqual((TASK, 0), (request["params"]["task"], request["params"]["after_seq"]))
            c.reply(request, {"subscription": 7, "task": TASK})
            c.event(1, "task.created", name="one", objective="o", workspace="/", model="m", policy="open", parent=None, keep_open=False)
            c.event(2, "turn.started", turn=1)

        def second(c):
            c.initialize()
            request = c.expect("events/subscribe")
            self.assertEqual((TASK, 2), (request["params"]["task"], request["params"]["after_seq"]))
            c.reply(request, {"subscription": 9, "task": TASK})
            c.event(2, "turn.started", turn=1)  # of a subscription that is not ours
            c.send({"method": "event", "params": {"seq": 2, "pos": 2, "task": TASK, "at": "2026-01-02T03:04:05.678Z", "turn": 1,
                                                  "kind": "turn.started", "subscription": 9}})  # handed out before
            c.send({"method": "unheard.of", "params": {"subscription": 9}})
            c.send({"method": "event", "params": {"seq": 3, "pos": 3, "task": TASK, "at": "2026-01-02T03:04:05.678Z",
                                                  "kind": "task.state", "subscription": 9, "from": "running", "to": "completed",
                                                  "reason": "", "waiting": None}})

        def follow(c):
            first(c)

        self.serve(follow, second)
        out, _ = self.ctl("log", "--json", "--follow", "one")
        events = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([1, 2, 3], [e["seq"] for e in events])
        self.assertFalse([e for e in events if "subscription" in e])

    def test_a_task_that_is_removed_ends_its_watch(self):
        def watch(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(seq=1))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})

        def told(c):
            watch(c)
            c.event(1, "turn.started", turn=1)
            c.send({"method": "end", "params": {"subscription": 8, "task": TASK, "reason": "removed"}})  # not ours
            c.event(2, "turn.started", turn=2)
            c.send({"method": "end", "params": {"subscription": 7, "task": TASK, "reason": "removed"}})
            self.assertIsNone(c.receive())

        def gone(c):
            c.initialize()
            c.fail(c.expect("events/subscribe"), -32003, "task_not_found")

        for scripts in ((told,), (watch, gone)):
            self.serve(*scripts, path=os.path.join(self.temp.name, f"s{len(scripts)}"))
            out, err = self.ctl("log", "--json", "--follow", "one", code=1)
            self.assertEqual([1, 2] if scripts == (told,) else [], [json.loads(line)["seq"] for line in out.splitlines()])
            self.assertIn(f"the task {TASK} " + ("was removed: it had ended" if scripts == (told,) else "is not there any more"), err)
            self.assertIn("limits.keep_ms", err)

    def test_after_daemon_stop_it_gives_up(self):
        def first(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(seq=1))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})
            with open(os.path.join(self.state, "stopped"), "w"):
                pass

        self.serve(first)
        _, err = self.ctl("wait", "one", code=3)
        self.assertIn("daemon start", err)

    def test_a_daemon_that_keeps_going_away_is_given_up(self):
        def first(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(seq=1))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})

        def again(c):
            c.initialize()
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})

        self.serve(first, *[again] * 9)
        _, err = self.ctl("wait", "one", code=3)
        self.assertIn("10 times in a row", err)
        self.assertIn(os.path.join(self.state, "daemon.log"), err)
        self.assertLess(len(err.splitlines()), 12)

    def watched(self, starts, end=None):
        """Connections of a task that is followed, each to a daemon that says so of its start; then one where the task ends."""
        def script(i, hello):
            def play(c):
                c.initialize(**hello)
                if i == 0:
                    c.reply(c.expect("task/get"), task(seq=1))
                c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})
                if hello is end:
                    state_event(c, 2, "completed")
                    c.reply(c.expect("task/get"), task("completed", seq=2))
            return play
        self.serve(*[script(i, hello) for i, hello in enumerate(starts + ([end] if end else []))])

    def test_orderly_restarts_are_waited_out_however_many(self):
        def start(i):
            return {"start": f"b{i}", "previous_end": "stop"}

        self.watched([start(i) for i in range(25)], end=start(25))
        _, err = self.ctl("wait", "one")
        self.assertNotIn("keeps going away", err)

    def test_an_orderly_restart_between_crashes_is_progress(self):
        starts = [{"start": f"b{i}", "previous_end": "stop" if i == 8 else "crash"} for i in range(16)]
        self.watched(starts, end={"start": "last", "previous_end": "crash"})
        self.ctl("wait", "one")

    def test_crashes_in_a_row_are_given_up(self):
        self.watched([{"start": f"b{i}", "previous_end": "crash"} for i in range(10)])
        self.assertIn("10 times in a row", self.ctl("wait", "one", code=3)[1])

    def test_the_same_daemon_that_drops_its_client_is_given_up(self):
        self.watched([{"start": "b1", "previous_end": "stop"}] * 10)
        self.assertIn("10 times in a row", self.ctl("wait", "one", code=3)[1])

    def test_a_timeout_holds_while_the_daemon_is_away(self):
        def first(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(seq=1))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})

        self.serve(first)
        began = time.monotonic()
        _, err = self.ctl("wait", "--timeout", "1s", "one", code=6)
        self.assertLess(time.monotonic() - began, 20)
        self.assertIn("still", err)

    # ---- wrong daemons ----

    def test_a_daemon_of_another_folder_is_refused(self):
        def script(c):
            c.state_dir = "/somewhere/else"
            c.initialize()
            self.assertIsNone(c.receive())

        self.serve(script)
        out, err = self.ctl("status", code=3)
        self.assertIn("/somewhere/else", err)
        self.assertEqual("", out)

    def test_the_same_folder_by_another_path_is_not(self):
        def script(c):
            c.state_dir = alias
            c.initialize()
            c.reply(c.expect("models/list"), {"models": []})

        alias = os.path.join(self.temp.name, "alias")
        os.symlink(self.state, alias)
        self.serve(script)
        self.ctl("models")

    def test_what_speaks_no_protocol_is_an_error(self):
        def script(c):
            c.receive()
            c.file.write(b"SSH-2.0-OpenSSH\n")
            c.file.flush()
            c.receive()

        self.serve(script)
        self.assertIn("protocol", self.ctl("models", code=1)[1])

    def test_errors_show_their_hint(self):
        def script(c):
            c.initialize()
            c.fail(c.expect("task/get"), -32003, "task_not_found")

        self.serve(script)
        out, err = self.ctl("status", "x", code=1)
        self.assertIn("no: task_not_found", err)
        self.assertIn("do x", err)

    # ---- places and starts ----

    def test_a_socket_path_beyond_the_address(self):
        folder = self.temp.name
        for _ in range(4):
            folder = os.path.join(folder, "x" * 50)
            os.mkdir(folder)

        def script(c):
            c.initialize()
            c.reply(c.expect("models/list"), {"models": []})

        self.serve(script, path=os.path.join(folder, "agentd.sock"))
        self.assertEqual({"models": []}, json.loads(self.ctl("models", "--json")[0]))

    def test_views_start_nothing_in_a_new_folder(self):
        self.path = os.path.join(self.temp.name, "none")
        process = self.start("status")
        out, err = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(3, process.returncode)
        self.assertIn("no daemon", err.decode())

    def test_work_tries_to_start_and_says_why_it_cannot(self):
        self.path = os.path.join(self.temp.name, "none")
        process = self.start("run", "x")
        out, err = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(3, process.returncode)
        self.assertIn("AGENTD_BIN", err.decode())

    def owned_for_a_moment(self):
        """Somebody, who does not listen, owns the state folder; not for long."""
        self.path = os.path.join(self.temp.name, "none")
        lock = os.open(os.path.join(self.state, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        os.write(lock, f"{os.getpid()}\n".encode())
        fcntl.flock(lock, fcntl.LOCK_EX)
        gone = threading.Timer(0.5, os.close, [lock])
        gone.start()
        self.addCleanup(gone.join)

    def test_who_owned_the_folder_and_is_gone_is_not_waited_for(self):
        self.owned_for_a_moment()
        began = time.monotonic()
        out, err = self.start("status").communicate(timeout=DEADLINE_S)
        self.assertLess(time.monotonic() - began, 8, "it was waited for to the end")  # ten seconds
        self.assertEqual(3, self.process.returncode)
        self.assertIn("no daemon runs", err.decode())

    def test_where_the_owner_is_gone_one_is_started(self):
        self.owned_for_a_moment()
        agentd, count = os.path.join(self.temp.name, "agentd"), os.path.join(self.temp.name, "count")
        with open(agentd, "w") as script:
            script.write(f'#!/bin/sh\n[ -e {count} ] || {{ touch {count}; exit 69; }}\necho "the second start" >&2\nexit 78\n')
        os.chmod(agentd, 0o700)
        out, err = self.start("run", "x", extra={"AGENTD_BIN": agentd}).communicate(timeout=DEADLINE_S)
        self.assertEqual(3, self.process.returncode)
        self.assertIn("the second start", err.decode())

    def test_doctor_without_a_daemon_reads_the_configuration(self):
        """It is agentd that reads it: here one that finds a mistake."""
        self.path = os.path.join(self.temp.name, "none")
        agentd = os.path.join(self.temp.name, "agentd")
        with open(agentd, "w") as script:
            script.write('#!/bin/sh\n[ "$1" = --check-config ] || exit 1\necho "config.yaml:7: wrong" >&2\nexit 78\n')
        os.chmod(agentd, 0o700)
        out, _ = self.start("doctor", "--json", extra={"AGENTD_BIN": agentd}).communicate(timeout=DEADLINE_S)
        self.assertEqual(3, self.process.returncode)
        check = [c for c in json.loads(out)["checks"] if c["name"] == "configuration"][0]
        self.assertEqual((False, "config.yaml:7: wrong"), (check["ok"], check["detail"]))

    def test_mistakes_of_the_command_line_name_no_method(self):
        def script(c):
            c.initialize()
            c.fail(c.expect("task/create"), -32602, "invalid_params")

        self.serve(script)
        _, err = self.ctl("run", "x", code=2)
        self.assertIn("agentctl run --help", err)
        for text in (" \n", "a\0b"):
            self.path = os.path.join(self.temp.name, "none")
            process = self.start("run", "-", stdin=subprocess.PIPE)
            _, err = process.communicate(text.encode(), timeout=DEADLINE_S)
            self.assertEqual(2, process.returncode, err)
            self.assertRegex(err.decode(), "PROMPT (is empty|holds a NUL)")

    # ---- what is sent and shown ----

    def test_live_text_is_taken_up_again(self):
        def delta(c, offset, text):
            c.send({"method": "delta", "params": {"subscription": 7, "task": TASK, "step": 1, "attempt": 1, "item": "i1",
                                                  "kind": "message.delta", "offset": offset, "text": text}})

        def script(c):
            c.initialize()
            c.reply(c.expect("task/create"), {"task": TASK, "seq": 1})
            c.reply(c.expect("task/get"), task(seq=1))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})
            delta(c, 0, "first line\nhalf ")
            delta(c, 5, " line\nhalf a ")  # overlaps: a new connection begins anew
            c.event(2, "notice", severity="info", text="between")
            delta(c, 18, "line")
            c.event(3, "message", item="i1", step=1, text="first line\nhalf a line, whole", phase="final", partial=False)
            state_event(c, 4, "completed")
            c.reply(c.expect("task/get"), task(state="completed", seq=4))

        self.serve(script)
        out, _ = self.ctl("run", "x")
        self.assertEqual(["first line", "half a ", "  ! between", "... line, whole"], out.splitlines())

    def test_a_wait_is_said_once(self):
        waiting = {"for": "input", "until": None, "detail": "waits for input"}

        def script(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(state="waiting", waiting=waiting))
            c.reply(c.expect("task/get"), task(state="waiting", waiting=waiting))

        self.serve(script)
        _, err = self.ctl("wait", "one", code=4)
        self.assertEqual("one waits for input", err.splitlines()[0])

    def test_what_must_be_read_is_not_cut(self):
        reason = "request refused: " + "very " * 40 + "wrong"

        def event(seq, kind, **more):
            return dict({"seq": seq, "pos": seq, "task": TASK, "at": "x", "kind": kind}, **more)

        def script(c):
            c.initialize()
            c.reply(c.expect("task/events"), {"events": [
                event(1, "step.retry", step=1, attempt=1, reason=reason, next_at="2026-01-02T03:04:05.678Z"),
                event(2, "step.retry", step=1, attempt=2, reason=reason, next_at=None),
                event(3, "task.state", **{"from": "running", "to": "failed", "reason": reason, "waiting": None}),
                event(4, "task.state", **{"from": "running", "to": "cancelled", "reason": "cancelled", "waiting": None})],
                "next": None, "prev": None, "end": 4})

        self.serve(script)
        lines = self.ctl("log", "one")[0].splitlines()
        self.assertEqual(3, len(lines))
        self.assertIn(reason + "; it is asked again", lines[0])
        self.assertIn("failed: " + reason, lines[1])
        self.assertTrue(lines[2].endswith(" cancelled"))
        self.assertNotIn("cancelled: ", lines[2])

    def test_run_sends_the_environment_without_keys(self):
        seen = []

        def script(c):
            c.initialize()
            request = c.expect("task/create")
            seen.append(request["params"])
            c.reply(request, {"task": TASK, "seq": 1})

        self.serve(script)
        out, _ = self.ctl("run", "--detach", "-n", "one", "do it")
        self.assertEqual(TASK + "\n", out)
        self.assertEqual(("do it", os.path.realpath(self.temp.name), "one"), tuple(seen[0][k] for k in ("prompt", "workspace", "name")))
        env = seen[0]["env"]
        self.assertEqual(("C.UTF-8", "-O1"), (env["LC_ALL"], env["CFLAGS"]))
        self.assertNotIn("canary", json.dumps(env))
        self.assertFalse([name for name in env if name.startswith("AGENTD_")])

    def test_a_big_environment_is_sent_in_part(self):
        seen = []

        def script(c):
            c.initialize()
            request = c.expect("task/create")
            seen.append(request["params"]["env"])
            c.reply(request, {"task": TASK, "seq": 1})

        self.serve(script)
        big = {name: "/x" * 15000 for name in ("CPATH", "LIBRARY_PATH", "PYTHONPATH", "MANPATH")}
        self.finish(self.start("run", "--detach", "x", extra=big))
        self.assertLess(sum(len(k) + len(v) + 2 for k, v in seen[0].items()), 65536)
        self.assertGreater(len(seen[0]), 2)

    def test_control_characters_reach_no_terminal(self):
        def script(c):
            c.initialize()
            c.reply(c.expect("task/events"), {"events": [
                {"seq": 1, "pos": 1, "task": TASK, "at": "2026-01-02T03:04:05.678Z", "kind": "message", "item": "i1", "step": 1,
                 "text": "a\x1b]0;owned\x07b\x1b[2Jc\x9bd\x07e\u202ef\x1b", "phase": "final", "partial": False},
                {"seq": 2, "pos": 2, "task": TASK, "at": "2026-01-02T03:04:05.678Z", "kind": "tool.called", "call": "c1", "step": 1,
                 "tool": "exec_command", "arguments": {"cmd": "printf '\x1b[31m'\nrm x"}},
                {"seq": 3, "pos": 3, "task": TASK, "at": "x", "kind": "of.the.future", "more": [1]}],
                "next": None, "prev": None, "end": 3})

        self.serve(script)
        out, _ = self.ctl("log", "one")
        bad = [ch for ch in out if (ord(ch) < 32 and ch != "\n") or 127 <= ord(ch) < 160 or ch == "\u202e"]
        self.assertEqual([], bad)
        self.assertIn("abc", out)
        self.assertIn("$ printf '' rm x", out)

    def test_json_is_escaped_where_a_terminal_would_obey(self):
        def script(c):
            c.initialize()
            c.file.write(('{"jsonrpc":"2.0","id":2,"result":{"events":[{"seq":1,"text":"\u009b2J\x7f"}],"next":null,"prev":null,'
                          '"end":1}}\n').encode())
            c.file.flush()
            c.receive()

        self.serve(script)
        out, _ = self.ctl("log", "--json", "one")
        self.assertEqual("\u009b2J\x7f", json.loads(out)["text"])
        self.assertTrue(out.isascii())

    def test_follow_ends_with_the_code_of_the_state(self):
        for state, code in (("completed", 0), ("failed", 1), ("cancelled", 5), ("paused", 4)):
            with self.subTest(state=state):
                def script(c):
                    c.initialize()
                    c.reply(c.expect("task/get"), task(seq=3))
                    c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})
                    state_event(c, 4, state)
                    c.reply(c.expect("task/get"), task(state=state, seq=4))

                self.serve(script, path=os.path.join(self.temp.name, state))
                self.ctl("wait", "one", code=code)

    def test_a_state_that_was_overtaken_ends_nothing(self):
        def script(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(seq=4))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})
            state_event(c, 2, "completed")
            state_event(c, 3, "running")
            c.event(4, "turn.started", turn=2)
            state_event(c, 5, "failed")

        self.serve(script)
        out, _ = self.ctl("log", "--json", "--follow", "one", code=1)
        self.assertEqual(4, len(out.splitlines()))

    def test_wait_gives_up_in_time(self):
        def script(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(seq=3))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})
            c.receive()

        self.serve(script)
        self.ctl("wait", "--timeout", "1s", "one", code=6)

    def test_interrupted_it_says_that_the_task_goes_on(self):
        ready = threading.Event()

        def script(c):
            c.initialize()
            c.reply(c.expect("task/create"), {"task": TASK, "seq": 1})
            c.reply(c.expect("task/get"), task(seq=1))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})
            ready.set()
            c.receive()

        self.serve(script)
        process = self.start("run", "x")
        self.assertTrue(ready.wait(DEADLINE_S))
        process.send_signal(signal.SIGINT)
        _, err = self.finish(process, 130)
        self.assertIn("goes on", err)

    def test_attach_steers_with_what_is_piped_in(self):
        def script(c):
            c.initialize()
            c.reply(c.expect("task/get"), task(seq=1))
            c.reply(c.expect("events/subscribe"), {"subscription": 7, "task": TASK})
            c.event(1, "message", item="i1", step=1, text="hello there", phase="commentary", partial=False)
            for i, text in enumerate(("first line", "second")):
                request = c.expect("task/steer")
                self.assertEqual(text, request["params"]["text"])
                c.reply(request, {"steer": f"s{i + 1}", "seq": 2 + i})
                c.event(2 + i, "steer.accepted", steer=f"s{i + 1}", text=text, delivery="next", key=request["params"]["key"])

        self.serve(script)
        out, err = self.finish(self.start("attach", "one", stdin=subprocess.PIPE), input=b"first line\n\nsecond")
        self.assertIn("hello there", out)
        self.assertIn("s2 accepted", out)


class Tap(unittest.TextTestResult):
    def startTestRun(self):
        self.n = 0

    def line(self, test, ok, detail=""):
        self.n += 1
        print(f"{'ok' if ok else 'not ok'} {self.n} - {test._testMethodName}", flush=True)
        for text in detail.splitlines():
            print("# " + text, flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.line(test, True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line(test, False, self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.line(test, False, self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.line(test, False, self.failures[-1][1] if self.failures else str(err[1]))


if __name__ == "__main__":
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(Link)
    result = unittest.TextTestRunner(resultclass=Tap, stream=open(os.devnull, "w")).run(tests)
    print(f"1..{result.n}")
    sys.exit(0 if result.wasSuccessful() else 1)
