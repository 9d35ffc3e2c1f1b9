"""The daemon dies, in every way; the work goes on. And what it refuses to start on stays as it was."""
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import unittest

from lib import AGENTD, Case, RpcError, alive, poll, processes_of, sh, stdin

LONG = 600000
# Appends one durable line to `effects` as its first act, then speaks, waits for the test, and speaks again.
EFFECT = r"""python3 - <<'PY'
import os, time
fd = os.open('effects', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
os.write(fd, b'effect\n'); os.fsync(fd)
for i in range(2000): print('before', i, flush=True)
while not os.path.exists('go'): time.sleep(0.02)
for i in range(2000): print('after', i)
PY
"""
WHOLE = "".join(f"before {i}\n" for i in range(2000)) + "".join(f"after {i}\n" for i in range(2000))


class Tool(Case):
    """kill -9 in the middle of a tool: it ran once, its output is whole, the task finishes by itself."""

    def begin(self):
        self.daemon([{"say": "x", "calls": [sh(EFFECT, yield_ms=LONG, limit=60000)]}, {"say": "ok"}])
        self.go, self.effects = self.d.workspace / "go", self.d.workspace / "effects"
        c = self.d.client()
        self.task = c.create(self.d.workspace)
        c.wait_for(lambda: "before 1999\n" in c.live_text(self.task, "run.output"), what="the tool at work")
        return c

    def again(self):
        self.d.start()
        self.c = self.d.client()
        self.c.subscribe(task=self.task, after_seq=0, deltas=True)
        return self.c

    def check_once_and_whole(self):
        c = self.c
        c.wait_state(self.task, "completed")
        self.assertEqual("effect\n", self.effects.read_text())
        self.assertEqual(1, len(c.of(self.task, "run.started")))
        ended = c.of(self.task, "run.ended")
        self.assertEqual(["done"], [e["outcome"] for e in ended])
        self.assertEqual((0, len(WHOLE)), (ended[0]["exit_code"], ended[0]["output_bytes"]))
        self.assertEqual(1, len(c.of(self.task, "tool.result")))
        self.assertIn(WHOLE, c.of(self.task, "tool.result")[0]["output"])
        self.assertIn(WHOLE, self.m.requests[-1].outputs()[0])
        self.assertEqual(2, len(self.m.requests))

    def recovered(self):
        events = self.c.of(self.task, "recovered")
        return [(e["previous_end"], [(f["what"], f["id"], f["became"]) for f in e["in_flight"]]) for e in events]

    def test_killed_while_it_runs(self):
        self.begin()
        self.d.kill()
        self.again()
        self.c.wait_event(self.task, "recovered")
        self.go.touch()
        self.check_once_and_whole()
        self.assertEqual([("crash", [("run", "r1", "reattached")])], self.recovered())

    def test_killed_and_the_tool_ends_meanwhile(self):
        self.begin()
        self.d.kill()
        self.go.touch()
        poll(lambda: not processes_of(self.d.workspace), what="the end of the tool")
        poll(lambda: not [p for p in processes_of(self.d.dir).values() if "agentd-runner" in p], what="the end of its runner")
        self.again()
        self.check_once_and_whole()
        self.assertEqual([("crash", [("run", "r1", "ended")])], self.recovered())

    def test_killed_again_and_again(self):
        self.begin()
        for n in range(4):
            self.d.kill()
            self.again()
            self.c.wait_event(self.task, "recovered", n=n + 1)
        self.d.kill()
        self.go.touch()
        self.again()
        self.check_once_and_whole()

    def test_an_orderly_stop_leaves_the_tool_at_work(self):
        self.begin()
        self.d.stop()
        self.assertTrue(processes_of(self.d.workspace))
        self.again()
        self.go.touch()
        self.check_once_and_whole()
        self.assertEqual("stop", self.recovered()[0][0])

    def test_live_text_goes_on_after_the_crash(self):
        self.begin()
        self.d.kill()
        c = self.again()
        c.wait_for(lambda: "before 1999\n" in c.live_text(self.task, "run.output"), what="what was said before")
        self.assertEqual(0, [d for d in c.deltas if d["kind"] == "run.output"][0]["offset"])
        self.go.touch()
        self.check_once_and_whole()

    def test_a_runner_that_is_killed_leaves_doubt(self):
        """What is in doubt is said, never guessed and never run again."""
        self.begin()
        self.d.kill()
        runner = [p for p, line in processes_of(self.d.dir).items() if "agentd-runner" in line.split(" ")[0]]
        self.assertEqual(1, len(runner), processes_of(self.d.dir))
        os.kill(runner[0], signal.SIGKILL)
        poll(lambda: not alive(runner[0]))
        c = self.again()
        c.wait_state(self.task, "completed")
        self.assertEqual(["in_doubt"], [e["outcome"] for e in c.of(self.task, "run.ended")])
        self.assertEqual("effect\n", self.effects.read_text())
        text = self.m.requests[-1].outputs()[0]
        self.assertIn("before 1\n", text)  # all that is known: the last output too
        self.assertRegex(text.lower(), "doubt|unknown|not known")
        self.assertEqual([("crash", [("run", "r1", "in_doubt")])], self.recovered())
        poll(lambda: not processes_of(self.d.workspace), what="the end of what was left of the run")

    def test_several_tools_at_once(self):
        cmd = "echo effect >> effects-{0}; while [ ! -e go ]; do sleep 0.02; done; echo out-{0}"
        self.daemon([{"calls": [sh(cmd.format(i), yield_ms=LONG) for i in range(5)]}, {"say": "ok"}])
        c = self.d.client()
        self.task = c.create(self.d.workspace)
        poll(lambda: all((self.d.workspace / f"effects-{i}").exists() for i in range(5)), what="five tools at work")
        self.d.kill()
        c = self.again()
        (self.d.workspace / "go").touch()
        c.wait_state(self.task, "completed")
        for i in range(5):
            self.assertEqual("effect\n", (self.d.workspace / f"effects-{i}").read_text())
        got = dict(zip(self.m.requests[-1].output_ids(), self.m.requests[-1].outputs()))
        for i in range(5):
            self.assertIn(f"out-{i}\n", got[f"call_1_{i}"])

    def test_input_is_written_once(self):
        read = "while read -r l; do echo $l >> lines; [ $l = end ] && exit 0; done"
        self.daemon([{"calls": [sh(read, yield_ms=300)]}, {"calls": [stdin(1, "one\n", yield_ms=LONG)]},
                     {"calls": [stdin(1, "end\n", yield_ms=LONG)]}, {"say": "ok"}])
        lines = self.d.workspace / "lines"
        c = self.d.client()
        self.task = c.create(self.d.workspace)
        poll(lambda: lines.exists() and lines.read_text() == "one\n", what="the input")
        self.d.kill()
        c = self.again()
        c.wait_event(self.task, "recovered")
        c.call("task/steer", task=self.task, text="go on")
        c.wait_state(self.task, "completed")
        self.assertEqual("one\nend\n", lines.read_text())


class Stopping(Case):
    """A daemon that is told to stop while it still recovers leaves what it has not taken up to the next start."""
    allowed_errors = (r"the disk is full: new work is refused",)

    def setUp(self):
        super().setUp()
        if b"AGENTD_FAILING" not in AGENTD.read_bytes():
            self.skipTest("a build without failpoints")

    def stop_in_recovery(self):
        """The first commit of a start finds no room; what it lets go is let go by a daemon that is already told to stop."""
        d = self.d
        failing = d.dir / "failing"
        failing.write_text("store.full")
        d.env["AGENTD_FAILING"] = str(failing)
        d.start(wait=False)
        poll(lambda: "the disk is full: new work is refused" in d.log_text(), what="a start that waits for room")
        failing.unlink()
        d.stop()
        del d.env["AGENTD_FAILING"]

    def test_input_waits_for_the_next_start(self):
        read = "while read -r l; do echo $l >> lines; [ $l = end ] && exit 0; done"
        d = self.daemon([{"calls": [sh(read, yield_ms=300)]}, {"calls": [stdin(1, "one\n", yield_ms=1000)]},
                         {"calls": [stdin(1, "end\n", yield_ms=LONG)]}, {"say": "ok"}],
                        limits={"database_retry_ms": 60000}, start=False)
        d.env["AGENTD_FAILPOINT"] = "world.input_due"  # the call is committed, and nothing of it sent
        d.start()
        c = d.client()
        task = c.create(d.workspace)
        self.assertEqual(-signal.SIGKILL, d.process.wait(60))
        d.process = None
        del d.env["AGENTD_FAILPOINT"]
        self.stop_in_recovery()
        lines = d.workspace / "lines"
        self.assertFalse(lines.exists())
        d.start()
        c = d.client()
        c.subscribe(task=task, after_seq=0)
        c.wait_state(task, "completed")
        self.assertEqual("one\nend\n", lines.read_text())
        self.assertEqual(["done"], [e["outcome"] for e in c.of(task, "run.ended")])
        self.assertEqual([], [e for e in c.of(task, "tool.result") if "not written" in e["output"] or "not be written" in e["output"]])
        self.assertEqual([("input", "resent")] * 2, [(f["what"], f["became"]) for e in c.of(task, "recovered")
                                                     for f in e["in_flight"] if f["what"] == "input"])


class Model(Case):
    def test_killed_in_the_middle_of_a_response(self):
        mid = threading.Event()
        self.daemon([{"say": "never whole " * 20, "mid": mid, "calls": [sh("touch never")]}, {"say": "whole"}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_for(lambda: c.deltas, what="the stream")
        self.d.kill()
        mid.set()
        self.d.start()
        c = self.d.client()
        c.subscribe(task=task, after_seq=0, deltas=True)
        c.wait_state(task, "completed")
        self.assertEqual(["whole"], [e["text"] for e in c.of(task, "message")])
        self.assertEqual(2, len(self.m.requests))
        self.assertEqual(self.m.requests[0].body, self.m.requests[1].body)
        recovered = c.wait_event(task, "recovered")
        self.assertEqual([("model", "resent")], [(f["what"], f["became"]) for f in recovered["in_flight"]])
        self.assertEqual([1, 2], [e["attempt"] for e in c.of(task, "step.started")])
        self.assertFalse((self.d.workspace / "never").exists())
        # Its cost is not known: that is said.
        self.assertGreater(c.call("task/get", task=task)["task"]["usage"]["uncertain_usd"], 0)

    def test_killed_during_a_back_off(self):
        self.daemon([{"status": 503, "headers": {"Retry-After": "3"}}, {"say": "ok"}], limits={"retry_ms_max": 10000})
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_event(task, "step.retry")
        self.d.kill()
        self.d.start()
        c = self.d.client()
        c.subscribe(task=task, after_seq=0)
        c.wait_state(task, "completed")
        self.assertEqual(2, len(self.m.requests))
        self.assertGreater(self.m.requests[1].at - self.m.requests[0].at, 2.5)

    def test_nothing_is_forgotten(self):
        """Journal, views, names and counters are the same after kill -9 and after an orderly stop."""
        self.daemon(lambda r: {"say": "done", "reasoning": "hm"} if len(r.outputs()) > 2 else
                    {"say": "\u00e4\u4e16\U0001f600", "calls": [sh("seq 1 100000"), sh("exit 3")]})
        c = self.d.client()
        tasks = [c.create(self.d.workspace, prompt=f"task {i}") for i in range(3)]
        for task in tasks:
            c.wait_state(task, "completed")
        before = [(c.journal(t), c.call("task/get", task=t)) for t in tasks] + [c.call("task/list", all=True)]
        for end in (self.d.kill, self.d.stop):
            end()
            self.d.start()
            c = self.d.client()
            after = [(c.journal(t), c.call("task/get", task=t)) for t in tasks] + [c.call("task/list", all=True)]
            self.assertEqual(before, after)
        self.d.stop()
        db = sqlite3.connect(f"file:{self.d.state_dir}/agentd.db?mode=ro", uri=True)
        self.assertEqual("ok", db.execute("PRAGMA quick_check").fetchone()[0])
        db.close()

    def test_killed_at_twenty_moments_slow(self):
        """Twenty crashes within one task of thirty steps; each effect happens once."""
        steps = 30
        self.daemon(lambda r: {"say": "done"} if len(r.outputs()) == steps else
                    {"calls": [sh(f"echo {len(r.outputs())} >> effects; sleep 0.02")]})
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.close()
        for i in range(20):
            if len(self.m.requests) > steps:
                break
            self.m.wait_requests(len(self.m.requests) + 1 + i % 2)  # a moment that differs from round to round
            self.d.kill()
            self.d.start()
        c = self.d.client()
        c.subscribe(task=task, after_seq=0)
        c.wait_state(task, "completed", timeout_s=120)
        lines = (self.d.workspace / "effects").read_text().split()
        self.assertEqual(len(set(lines)), len(lines), "an effect happened twice")
        doubts = [e for e in c.of(task, "run.ended") if e["outcome"] in ("in_doubt", "not_started")]
        self.assertEqual([], doubts)  # only the daemon was killed: every runner knew
        self.assertEqual([str(i) for i in range(steps)], lines)
        self.assertEqual(c.journal(task), [{k: v for k, v in e.items() if k != "subscription"} for e in c.of(task)])


class Refusals(Case):
    allowed_errors = (r".",)  # a start that is refused says so as an error

    def second(self, d, *more, timeout_s=60):
        arguments = {"--state-dir": d.state_dir, "--socket": d.socket, "--config": d.config}
        arguments.update(dict(zip(more[::2], more[1::2])))
        return subprocess.run([str(AGENTD), "--foreground", *[str(x) for pair in arguments.items() for x in pair]], env=d.env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)

    def test_two_daemons_never_share_a_state_folder(self):
        d = self.daemon()
        c = d.client()
        for more in ((), ("--socket", d.dir / "run" / "other.sock")):
            done = self.second(d, *more)
            self.assertNotEqual(0, done.returncode)
            self.assertIn(str(d.state_dir), done.stderr)
        self.assertFalse((d.dir / "run" / "other.sock").exists())
        c.call("daemon/status")
        d.client().call("daemon/status")

    def test_a_socket_that_another_daemon_serves(self):
        d = self.daemon()
        done = self.second(d, "--state-dir", d.dir / "other-state")
        self.assertNotEqual(0, done.returncode)
        self.assertIn(str(d.socket), done.stderr)
        d.client().call("daemon/status")

    def test_a_foreign_file_where_the_socket_should_be(self):
        d = self.daemon(start=False)
        d.socket.parent.mkdir(mode=0o700)
        for make, check in ((lambda: d.socket.write_text("precious"), lambda: self.assertEqual("precious", d.socket.read_text())),
                            (lambda: d.socket.mkdir(), lambda: self.assertTrue(d.socket.is_dir())),
                            (lambda: d.socket.symlink_to("precious"), lambda: self.assertTrue(d.socket.is_symlink()))):
            make()
            done = self.second(d)
            self.assertNotEqual(0, done.returncode)
            self.assertIn(str(d.socket), done.stderr)
            check()
            if d.socket.is_dir() and not d.socket.is_symlink():
                d.socket.rmdir()
            else:
                d.socket.unlink()

    def test_a_stale_socket_is_replaced(self):
        d = self.daemon()
        d.kill()
        self.assertTrue(d.socket.exists())
        d.start()
        d.client().call("daemon/status")
        d.stop()
        self.assertFalse(d.socket.exists(), "an orderly end takes its socket with it")

    def test_a_socket_that_a_dead_daemons_child_still_holds(self):
        d = self.daemon(start=False)
        held = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
if os.fork() == 0:
    os.closerange(0, 3)
    time.sleep(1)  # as a child that is between fork and exec when its parent is killed
"""
        d.socket.parent.mkdir(mode=0o700)
        subprocess.run([sys.executable, "-c", held, str(d.socket)], check=True)
        d.start()
        d.client().call("daemon/status")

    def test_a_long_socket_path(self):
        d = self.daemon(start=False)
        d.socket = d.dir / ("x" * 100) / ("y" * 60) / "agentd.sock"
        d.socket.parent.parent.mkdir()
        d.env["AGENTD_SOCKET"] = str(d.socket)
        d.start(wait=False)
        done = poll(lambda: (r := d.ctl("daemon", "status", "--json")).returncode == 0 and r, what="agentctl through the long path")
        self.assertEqual(str(d.socket), json.loads(done.stdout)["daemon"]["socket"])

    def test_a_newer_database(self):
        d = self.daemon()
        d.stop()
        path = d.state_dir / "agentd.db"
        version = self.set_version(path, 9999)
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        done = self.second(d)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("newer", done.stderr)
        self.assertEqual(before, hashlib.sha256(path.read_bytes()).hexdigest())
        self.set_version(path, version)
        d.start()

    @staticmethod
    def set_version(path, version):
        """Returns the one before."""
        db = sqlite3.connect(path)
        before = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()
        db.close()
        return before

    def test_a_task_that_cannot_be_read_is_left_and_the_others_go_on(self):
        d = self.daemon([{"say": "x", "calls": [sh("while [ ! -e go ]; do sleep 0.05; done", 300000)]},
                         {"say": "Done."}], by_turn=True)
        c = d.client()
        tasks = [c.create(d.workspace, name=name) for name in ("damaged", "whole")]
        for task in tasks:
            c.subscribe(task=task, after_seq=0)
            c.wait_for(lambda task=task: c.of(task, "run.started"), what="the tool at work")
        d.kill()
        db = sqlite3.connect(d.state_dir / "agentd.db")
        changed = db.execute("UPDATE specs SET spec = x'7b7d' WHERE task = (SELECT n FROM tasks WHERE id = ?)", (tasks[0],))
        self.assertEqual(1, changed.rowcount)
        db.commit()
        db.close()
        d.start()
        c = d.client()
        (d.workspace / "go").touch()
        c.subscribe(task=tasks[1], after_seq=0)
        c.wait_state(tasks[1], "completed")
        self.assertEqual({"damaged": "running", "whole": "completed"},
                         {t["name"]: t["state"] for t in c.call("task/list", all=True)["tasks"]})
        self.assertTrue(c.journal(tasks[0]))
        with self.assertRaises(RpcError) as refused:
            c.call("task/cancel", task=tasks[0])
        self.assertEqual(-32022, refused.exception.code)

    def test_a_database_of_somebody_else(self):
        for content in (b"this is no database, and precious" * 100, None):
            d = self.daemon(start=False)
            d.state_dir.mkdir(mode=0o700)
            path = d.state_dir / "agentd.db"
            if content:
                path.write_bytes(content)
            else:
                db = sqlite3.connect(path)
                db.execute("CREATE TABLE photos (x)")
                db.commit()
                db.close()
            before = path.read_bytes()
            done = self.second(d)
            self.assertNotEqual(0, done.returncode)
            self.assertIn("agentd.db", done.stderr)
            self.assertEqual(before, path.read_bytes())

    def test_a_state_folder_that_cannot_be(self):
        d = self.daemon(start=False)
        (d.dir / "file").write_text("")
        done = self.second(d, "--state-dir", d.dir / "file")
        self.assertNotEqual(0, done.returncode)
        self.assertIn(str(d.dir / "file"), done.stderr)


if __name__ == "__main__":
    unittest.main()
