"""agentctl as people and scripts use it: what it prints, where, and with which exit code."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
import unittest

from lib import AGENTCTL, Case, poll, processes_of, schema, sh

WAIT = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo over"


class Run(Case):
    def test_run_to_its_end(self):
        self.daemon([{"say": "I look around.", "calls": [sh("echo tool-output-here")]}, {"say": "All is well."}])
        done = self.d.ctl("run", "Look at it", check=0)
        for text in ("I look around.", "echo tool-output-here", "tool-output-here", "All is well."):
            self.assertIn(text, done.stdout + done.stderr)
        self.assertIn("All is well.", done.stdout)
        self.assertNotIn("\033", done.stdout + done.stderr)
        self.assertTrue(any("Look at it" in t for t in self.m.requests[0].texts()))
        task = json.loads(self.d.ctl("status", "--json", "@last", check=0).stdout)["tasks"][0]
        self.assertEqual((str(self.d.workspace), "completed"), (task["workspace"], task["state"]))

    def test_run_json_is_one_event_a_line(self):
        self.daemon([{"say": "x", "calls": [sh("true")]}, {"say": "y"}])
        done = self.d.ctl("run", "--json", "-n", "named", "-C", self.d.workspace, "work", cwd="/", check=0)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        for event in events:
            schema.check_event(event)
        self.assertEqual(list(range(1, len(events) + 1)), [e["seq"] for e in events])
        self.assertEqual(("task.created", "named"), (events[0]["kind"], events[0]["name"]))
        self.assertEqual("completed", [e for e in events if e["kind"] == "task.state"][-1]["to"])
        log = self.d.ctl("log", "--json", "named", check=0)
        self.assertEqual(events, [json.loads(line) for line in log.stdout.splitlines()][:len(events)])

    def test_detach_prints_only_the_id(self):
        gate = threading.Event()
        self.daemon([{"say": "x", "gate": gate}])
        done = self.d.ctl("run", "--detach", "work", check=0)
        self.assertRegex(done.stdout, r"\At[0-9a-z]{26}\n\Z")
        gate.set()
        self.d.ctl("wait", done.stdout.strip(), check=0)

    def test_the_prompt_from_standard_input(self):
        self.daemon([{"say": "x"}])
        text = "from a pipe\nwith \u00e4 and \"quotes\""
        self.d.ctl("run", "-", input=text + "\n", check=0)
        self.assertTrue(any(text in t for t in self.m.requests[0].texts()))

    def test_a_key_makes_it_once(self):
        self.daemon([{"say": "x"}])
        one = self.d.ctl("run", "--detach", "--key", "k1", "work", check=0)
        self.d.ctl("wait", one.stdout.strip(), check=0)
        self.assertEqual(one.stdout, self.d.ctl("run", "--detach", "--key", "k1", "work", check=0).stdout)
        self.assertEqual(1, len(self.m.requests))

    def test_the_exit_code_says_how_it_ended(self):
        gate = threading.Event()
        self.daemon([{"status": 400}, {"status": 401}, {"say": "x", "gate": gate}])
        self.d.ctl("run", "-n", "fails", "x", check=1)
        self.d.ctl("run", "-n", "stuck", "x", check=4)
        follow = self.d.ctl_start("run", "-n", "ends", "x")
        self.m.wait_requests(3)
        self.d.ctl("cancel", "ends", check=0)
        out, err = follow.communicate(timeout=60)
        self.assertEqual(5, follow.returncode, out + err)
        for name, code in (("fails", 1), ("stuck", 4), ("ends", 5)):
            self.d.ctl("wait", name, check=code)
            self.d.ctl("log", "--follow", name, check=code)
        self.d.ctl("cancel", "stuck", check=0)
        gate.set()

    def test_leaving_leaves_it_at_work(self):
        gate = threading.Event()
        self.daemon([{"say": "done", "gate": gate}])
        follow = self.d.ctl_start("run", "-n", "long", "x")
        self.m.wait_requests(1)
        follow.send_signal(signal.SIGINT)
        out, err = follow.communicate(timeout=60)
        self.assertEqual(130, follow.returncode, out + err)
        self.assertEqual("running", json.loads(self.d.ctl("status", "--json", "long").stdout)["tasks"][0]["state"])
        gate.set()
        self.d.ctl("wait", "long", check=0)

    def test_it_reconnects_and_goes_on_where_it_was(self):
        self.daemon([{"calls": [sh(WAIT, yield_ms=600000)]}, {"say": "finished"}])
        follow = self.d.ctl_start("run", "--json", "-n", "long", "x")
        self.m.wait_requests(1)
        c = self.d.client()
        c.subscribe(task="@last", after_seq=0, deltas=True)
        c.wait_for(lambda: c.ran("begun"), what="the tool at work")
        self.d.kill()
        self.d.start()
        (self.d.workspace / "go").touch()
        out, err = follow.communicate(timeout=120)
        self.assertEqual(0, follow.returncode, err)
        events = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(list(range(1, len(events) + 1)), [e["seq"] for e in events])
        self.assertIn("recovered", [e["kind"] for e in events])


class Views(Case):
    def setUp(self):
        super().setUp()
        self.daemon([{"say": "first words", "calls": [sh("seq 1 3"), sh("exit 4")]}, {"say": "last words"}])
        self.d.ctl("run", "--detach", "-n", "one", "the prompt", check=0)
        self.d.ctl("wait", "one", check=0)

    def test_status_json(self):
        got = json.loads(self.d.ctl("status", "--json", check=0).stdout)
        self.assertEqual({"daemon", "tasks", "next"}, set(got))
        schema.check_members("status.daemon", schema.SCHEMA["objects"]["daemon"]["members"], got["daemon"])
        schema.check_members("status.task", schema.SCHEMA["objects"]["task"]["members"], got["tasks"][0])
        self.assertEqual(self.d.pid, got["daemon"]["pid"])
        task = got["tasks"][0]
        self.assertEqual(("one", "completed", None, 1, 2, 2), tuple(task[k] for k in ("name", "state", "waiting", "turns", "steps", "runs")))
        one = json.loads(self.d.ctl("status", "one", "--json", check=0).stdout)
        self.assertEqual({"daemon", "tasks", "next"}, set(one))
        self.assertEqual(got["tasks"], one["tasks"])

    def test_status_for_people(self):
        out = self.d.ctl("status", check=0).stdout
        line = [text for text in out.splitlines() if "one" in text.split()]
        self.assertEqual(1, len(line), out)
        self.assertIn("completed", line[0])
        self.assertIn("one", self.d.ctl("status", "one", check=0).stdout)

    def test_status_all_has_every_task(self):
        for i in range(5):
            self.m.steps.append({"say": "x"})
            self.d.ctl("run", "-n", f"more-{i}", "x", check=0)
        got = json.loads(self.d.ctl("status", "--all", "--json", check=0).stdout)
        self.assertEqual(6, len(got["tasks"]))
        self.assertEqual("more-4", got["tasks"][0]["name"])

    def test_log(self):
        out = self.d.ctl("log", "one", check=0).stdout
        for text in ("the prompt", "first words", "seq 1 3", "last words"):
            self.assertIn(text, out)
        events = self.d.ctl("log", "one", "--json", check=0).stdout.splitlines()
        after = self.d.ctl("log", "one", "--json", "--after", "5", check=0).stdout.splitlines()
        self.assertEqual(events[5:], after)
        for line in events:
            schema.check_event(json.loads(line))

    def test_a_reader_that_leaves_early(self):
        for shell in (f"{AGENTCTL} log one | head -1", f"{AGENTCTL} log --json one | head -1", f"{AGENTCTL} status --json | head -c 1"):
            done = subprocess.run(["bash", "-c", shell], env=self.d.env, capture_output=True, text=True, timeout=60)
            self.assertEqual("", done.stderr)
            self.assertTrue(done.stdout)

    def test_how_tasks_are_named(self):
        id = json.loads(self.d.ctl("status", "--json").stdout)["tasks"][0]["id"]
        for text in (id, id[:20], "one", "@last"):
            self.assertEqual(id, json.loads(self.d.ctl("status", "--json", text, check=0).stdout)["tasks"][0]["id"])
        done = self.d.ctl("status", "nobody", check=1)
        self.assertIn("nobody", done.stderr)
        self.assertEqual("", done.stdout)

    def test_models_and_doctor(self):
        models = json.loads(self.d.ctl("models", "--json", check=0).stdout)["models"]
        self.assertEqual([("main", "openai-responses", True, True)], [(m["name"], m["wire"], m["default"], m["ready"]) for m in models])
        self.assertIn("main", self.d.ctl("models", check=0).stdout)
        checks = json.loads(self.d.ctl("doctor", "--json", check=0).stdout)["checks"]
        self.assertGreater(len(checks), 3)
        # Tools have the user's rights so far, and doctor says so.
        self.assertRegex(self.d.ctl("doctor", check=0).stdout, "rights")

    def test_json_of_changes_is_the_result(self):
        self.m.steps.append({"say": "more"})
        schema.check_result("task/steer", json.loads(self.d.ctl("steer", "--json", "one", "again", check=0).stdout))
        self.d.ctl("wait", "one", check=0)

    def test_every_command_speaks_json(self):
        """One document, and nothing else on stdout."""
        for args, method in ((("models",), "models/list"), (("doctor",), "daemon/doctor"), (("daemon", "status"), "daemon/status")):
            schema.check_result(method, json.loads(self.d.ctl(*args, "--json", check=0).stdout))
        for args in (("wait", "one"), ("config", "check"), ("status", "--all"), ("daemon", "start")):
            done = self.d.ctl(*args, "--json", check=0)
            self.assertIsInstance(json.loads(done.stdout), dict, args)
        done = self.d.ctl("cancel", "one", "--json", check=1)
        self.assertIn("completed", done.stderr)

    def test_wait_on_a_final_task_returns_at_once(self):
        self.d.ctl("wait", "one", "--timeout", "1s", check=0)

    def test_a_daemon_of_another_state_folder_is_refused(self):
        done = self.d.ctl("status", env=dict(self.d.env, AGENTD_STATE_DIR=str(self.d.dir / "elsewhere")))
        self.assertNotEqual(0, done.returncode)
        self.assertIn("state", done.stderr)


class Usage(Case):
    def test_wrong_usage_is_2_and_says_why(self):
        place = self.place()
        for args in ((), ("fly",), ("run",), ("steer",), ("steer", "x"), ("status", "a", "b"), ("run", "--no-such", "x"), ("log",),
                     ("wait", "x", "--timeout", "soon"), ("wait", "x", "--timeout", "5"), ("steer", "--wait", "never", "x", "y"),
                     ("log", "x", "--after", "-1"), ("log", "x", "--after", "ten"), ("daemon",), ("daemon", "fly"), ("config",),
                     ("run", "-n"), ("steer", "--now", "--queue", "x", "y")):
            with self.subTest(args=args):
                done = place.ctl(*args, check=2)
                self.assertTrue(done.stderr.strip())
        self.assertFalse(place.state_dir.exists(), "a wrong command line starts nothing")

    def test_help_everywhere_with_an_example(self):
        place = self.place()
        self.assertIn("agentctl", place.ctl("--help", check=0).stdout)
        for name, entry in schema.SCHEMA["commands"].items():
            out = place.ctl(*name.split(), "--help", check=0).stdout
            self.assertIn("agentctl " + name, out)
            self.assertTrue(any(e in out for e in entry["examples"]), f"{name}: no example")
            for option in entry["options"]:
                self.assertIn(option["name"], out)
        self.assertIn("0.1.0", place.ctl("--version", check=0).stdout)

    def test_no_start_forbids(self):
        place = self.place()
        place.write_config()
        for args in (("run", "--no-start", "x"), ("status", "--no-start"), ("log", "--no-start", "x"), ("cancel", "--no-start", "x")):
            place.ctl(*args, check=3)
        place.ctl("daemon", "status", check=3)
        place.ctl("daemon", "stop")
        self.assertEqual({}, processes_of(place.dir))


class Steering(Case):
    def test_next_answers_the_waiting_call_within_a_second(self):
        self.daemon([{"calls": [sh(WAIT, yield_ms=600000)]}, {"say": "heard"}])
        self.d.ctl("run", "--detach", "-n", "t", "x", check=0)
        c = self.d.client()
        c.subscribe(task="t", after_seq=0, deltas=True)
        c.wait_for(lambda: c.ran("begun"), what="the tool at work")
        began = time.monotonic()
        self.d.ctl("steer", "--next", "t", "hurry up", check=0)
        self.assertLess(self.m.wait_requests(2).at - began, 2)  # the start of a sanitized agentctl included
        self.d.ctl("wait", "t", check=0)
        self.assertIn("hurry up", "".join(self.m.requests[1].texts()))
        self.assertTrue(processes_of(self.d.workspace), "the process goes on")
        (self.d.workspace / "go").touch()
        poll(lambda: not processes_of(self.d.workspace))

    def test_it_waits_for_what_it_was_told(self):
        gates = [threading.Event() for _ in range(2)]
        self.daemon([{"say": "a", "calls": [sh("true")], "gate": gates[0]}, {"say": "b", "gate": gates[1]}])
        self.d.ctl("run", "--detach", "-n", "t", "x", check=0)
        self.m.wait_requests(1)
        self.d.ctl("steer", "t", "accepted only", check=0)
        delivered = self.d.ctl_start("steer", "--wait", "delivered", "t", "two")
        seen = self.d.ctl_start("steer", "--wait", "seen", "t", "three")
        c = self.d.client()
        poll(lambda: c.call("task/get", task="t")["task"]["pending"]["steers"] == 3)
        self.assertIsNone(delivered.poll())
        gates[0].set()
        self.finished(delivered)
        self.assertIsNone(seen.poll())
        gates[1].set()
        self.finished(seen)
        self.d.ctl("wait", "t", check=0)

    def finished(self, process):
        out, err = process.communicate(timeout=60)
        self.assertEqual(0, process.returncode, out + err)

    def test_text_from_standard_input(self):
        gate = threading.Event()
        self.daemon([{"say": "a", "gate": gate}, {"say": "b"}])
        self.d.ctl("run", "--detach", "-n", "t", "x", check=0)
        self.m.wait_requests(1)
        self.d.ctl("steer", "t", "-", input="from a pipe", check=0)
        gate.set()
        self.d.ctl("wait", "t", check=0)
        self.assertIn("from a pipe", "".join(self.m.requests[1].texts()))

    def test_pause_resume(self):
        gate = threading.Event()
        self.daemon([{"say": "x", "calls": [sh("true")], "gate": gate}, {"say": "y"}])
        self.d.ctl("run", "--detach", "-n", "t", "x", check=0)
        self.m.wait_requests(1)
        self.d.ctl("pause", "t", check=0)
        gate.set()
        poll(lambda: json.loads(self.d.ctl("status", "--json", "t").stdout)["tasks"][0]["state"] == "paused")
        self.d.ctl("resume", "t", check=0)
        self.d.ctl("wait", "t", check=0)
        self.assertIn("completed", self.d.ctl("pause", "t", check=1).stderr)

    def test_wait_gives_up(self):
        gate = threading.Event()
        self.daemon([{"say": "x", "gate": gate}])
        self.d.ctl("run", "--detach", "-n", "t", "x", check=0)
        began = time.monotonic()
        self.d.ctl("wait", "t", "--timeout", "1s", check=6)
        self.assertLess(0.9, time.monotonic() - began)
        gate.set()
        self.d.ctl("wait", "t", "--timeout", "2m", check=0)


class Attach(Case):
    def test_live_text_and_a_line_that_steers(self):
        mid = threading.Event()
        self.daemon([{"say": "the first half of it and the second half", "mid": mid, "calls": [sh("true")]}, {"say": "I obey."}])
        self.d.ctl("run", "--detach", "-n", "t", "--keep-open", "x", check=0)
        master, slave = pty.openpty()
        process = subprocess.Popen([str(AGENTCTL), "attach", "t"], stdin=slave, stdout=slave, stderr=slave,
                                   env=dict(self.d.env, TERM="dumb"), start_new_session=True)
        os.close(slave)
        self.addCleanup(os.close, master)
        text = [""]

        def seen(pattern):
            while select.select([master], [], [], 0)[0]:
                try:
                    text[0] += os.read(master, 65536).decode(errors="replace")
                except OSError:
                    break
            return re.search(pattern, text[0])

        poll(lambda: seen("the first half"), what="live text")
        self.assertNotIn("second half", text[0])
        os.write(master, b"use the iterator\n")
        c = self.d.client()
        poll(lambda: "use the iterator" in json.dumps(c.journal("t")), what="the steer")
        mid.set()
        poll(lambda: seen("I obey."), what="the answer")
        self.assertIn("use the iterator", "".join(self.m.requests[1].texts()))
        os.write(master, b"\x04")
        poll(lambda: seen("$^") or process.poll() is not None, what="its end")
        self.assertEqual(0, process.returncode, text[0])
        poll(lambda: json.loads(self.d.ctl("status", "--json", "t").stdout)["tasks"][0]["state"] == "waiting")
        self.d.ctl("cancel", "t", check=0)


if __name__ == "__main__":
    unittest.main()
