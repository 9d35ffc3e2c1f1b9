"""`agentctl daemon restart`, with the same programs and with others: nothing is lost, and tools go on through it."""
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import unittest

from lib import Case, Client, Closed, Installed, RpcError, alive, daemons_of, poll, processes_of, sh, stdin

LONG = 600000
OTHER = "9.1.0"  # a version that is not this one
LOST = (OSError, Closed, AssertionError)
# Says a number a line, without a break, from its start to its end.
COUNT = r"""python3 - <<'PY'
import os, time
fd = os.open('effects', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
os.write(fd, b'effect\n'); os.fsync(fd)
n = 0
while not os.path.exists('go'):
    print(n, flush=True); n += 1; time.sleep(0.005)
print('over', n, flush=True)
PY
"""
READ = "while read -r l; do echo got $l >> lines; [ $l = end ] && break; done; echo the reader is over"
SERVE = "(while :; do date +%N > alive; sleep 0.05; done) > /dev/null 2>&1 & echo $! > server.pid"


class Script:
    """By the name in the prompt, and the number of answers to calls that the request holds."""

    def __init__(self):
        self.reader, self.model = threading.Event(), threading.Event()
        self.steps = {
            "tool": [{"calls": [sh(COUNT, yield_ms=LONG)]}, {"say": "counted"}],
            "reader": [{"calls": [sh(READ, yield_ms=100)]}, {"gate": self.reader, "calls": [stdin(1, "end\n", yield_ms=LONG)]},
                       {"say": "read"}],
            "server": [{"calls": [sh(SERVE)]}, {"say": "it serves"}],
            "model": [{"say": "said in whole, once", "mid": self.model}, {"say": "never"}],
        }

    def __call__(self, request):
        steps = self.steps[request.texts()[0].split(":")[0]]
        return steps[min(len(request.outputs()), len(steps) - 1)]


class Steering(threading.Thread):
    """Says one thing after the other, each until it is acknowledged."""

    def __init__(self, place, task):
        super().__init__(daemon=True)
        self.place, self.task, self.acked, self.over, self.wrong = place, task, [], threading.Event(), []

    def run(self):
        try:
            while not self.over.wait(0.03):
                self.say(f"steer {len(self.acked)}")
        except Exception as e:  # noqa: BLE001
            self.wrong.append(f"{type(e).__name__}: {e}")

    def say(self, text):
        def once():
            try:
                with Client(self.place.socket, problems=[]) as c:
                    return c.call("task/steer", task=self.task, text=text, key=text, delivery="queue")
            except RpcError as e:
                if e.name != "stopping":
                    raise
            except LOST:
                return None
        answer = poll(once, what=f"the answer to {text}")
        self.acked.append((text, answer["steer"], answer["seq"]))


class Watching(threading.Thread):
    """Follows everything over one connection after the other, each from where the last one was cut."""

    def __init__(self, place):
        super().__init__(daemon=True)
        self.place, self.events, self.pos, self.over, self.cuts = place, [], 0, threading.Event(), 0

    def run(self):
        while not self.over.wait(0.01):
            c, taken = None, 0
            try:
                with Client(self.place.socket, problems=[]) as c:
                    c.subscribe(after_pos=self.pos)
                    while not self.over.is_set():
                        try:
                            c.wait_for(lambda: len(c.events) > taken, 0.2)
                        except AssertionError:
                            pass
                        taken = self.take(c, taken)
            except Closed:
                if c:  # else it was the one that answers nobody any more
                    self.take(c, taken)
                self.cuts += 1
            except LOST:
                pass

    def take(self, c, taken):
        new = c.events[taken:]
        self.events += [{k: v for k, v in e.items() if k != "subscription"} for e in new]
        self.pos = max([self.pos, *(e["pos"] for e in new)])
        return taken + len(new)


class Load(Case):
    """Tasks of each sort at work, a client that steers, and some that watch, while the daemon goes and comes."""

    def begin(self, version=None):
        self.script = Script()
        self.m = self.model(self.script)
        self.p = self.place()
        self.p.write_config(self.m.base_url)
        self.here = Installed(self.p.dir / "here", **({"version": version} if version else {}))
        self.addCleanup(self.end)
        self.ctl("daemon", "start", check=0)

    def ctl(self, *args, **more):
        return self.here.ctl(self.p, *args, **more)

    def end(self):
        try:
            with Client(self.p.socket, problems=self.p.problems) as c:
                for task in c.call("task/list", all=True)["tasks"]:
                    if task["state"] not in ("completed", "failed", "cancelled") or task["runs"]:
                        c.call("task/cancel", task=task["id"])
        except (*LOST, RpcError):
            pass
        self.ctl("daemon", "stop", check=0)

    def load(self):
        p = self.p
        self.tasks = {}
        for name in self.script.steps:
            self.tasks[name] = self.ctl("run", "--detach", "-n", name, f"{name}: do the work", check=0).stdout.strip()
        poll(lambda: (p.workspace / "effects").exists() and (p.workspace / "server.pid").exists(), what="the tools at work")
        poll(lambda: len(self.requests("reader")) == 2 and self.requests("model"), what="models at work")
        self.steering, self.watching = Steering(p, self.tasks["model"]), Watching(p)
        self.follow = subprocess.Popen([str(self.here.agentctl), "log", "--follow", "--json", self.tasks["model"]], env=p.env,
                                       cwd=p.workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.follow.kill)
        self.steering.start()
        self.watching.start()
        poll(lambda: len(self.steering.acked) > 1, what="steers")

    def requests(self, name):
        return [r for r in self.m.requests if r.texts()[0].startswith(f"{name}:")]

    def daemon(self):
        return json.loads(self.ctl("daemon", "status", "--json", check=0).stdout)["daemon"]

    def restart(self, ctl=None):
        before, said, alive_before = self.daemon()["pid"], len(self.steering.acked), self.served()
        (ctl or self.ctl)("daemon", "restart", check=0)
        now = self.daemon()
        self.assertNotEqual(before, now["pid"])
        self.assertFalse(alive(before))
        poll(lambda: len(self.steering.acked) > said + 1 or self.steering.wrong, what="steers go on")
        poll(lambda: self.served() != alive_before, what="the server in the background lives")
        return now

    def served(self):
        return (self.p.workspace / "alive").read_text()

    def finish(self):
        """Every task comes to its end."""
        self.steering.over.set()
        self.steering.join(60)
        self.script.reader.set()
        self.script.model.set()
        (self.p.workspace / "go").touch()
        for name in self.tasks:
            self.ctl("wait", "--timeout", "60s", self.tasks[name], check=0)
        self.c = Client(self.p.socket, problems=self.p.problems)
        self.addCleanup(self.c.close)
        self.journals = {name: self.c.journal(task) for name, task in self.tasks.items()}

    def of(self, name, kind):
        return [e for e in self.journals[name] if e["kind"] == kind]

    def check_tools(self):
        out = (self.p.state_dir / "runs" / self.tasks["tool"] / "r1" / "out").read_text().split("\n")
        n = len(out) - 2
        self.assertEqual([str(i) for i in range(n)] + [f"over {n}", ""], out)
        self.assertEqual("effect\n", (self.p.workspace / "effects").read_text())
        ended = self.of("tool", "run.ended")
        self.assertEqual([("done", 0)], [(e["outcome"], e["exit_code"]) for e in ended])
        self.assertEqual(sum(map(len, out)) + len(out) - 1, ended[0]["output_bytes"])
        self.assertIn(f"over {n}", self.requests("tool")[-1].outputs()[0])
        self.assertEqual("got end\n", (self.p.workspace / "lines").read_text())
        self.assertIn("the reader is over", self.requests("reader")[-1].outputs()[-1])
        for name in self.tasks:
            self.assertEqual(1 if name != "model" else 0, len(self.of(name, "run.started")))
        self.assertTrue(alive(int((self.p.workspace / "server.pid").read_text())))

    def check_model(self, restarts):
        """Sent again after each restart, always what was sent before; accepted once."""
        bodies = [r.body for r in self.requests("model")]
        for a, b in zip(bodies, bodies[1:]):
            self.assertTrue(b.startswith(a[:-2]))
        self.assertEqual(bodies[0], bodies[1])
        said = [e["text"] for e in self.of("model", "message")]
        self.assertEqual(["said in whole, once"] * len(said), said)
        first = [e["attempt"] for e in self.of("model", "step.started") if e["step"] == 1]
        self.assertEqual(list(range(1, restarts + 2)), first)
        self.assertEqual([restarts] * 2, [len(self.of(name, "recovered")) for name in ("model", "tool")])
        for e in self.of("tool", "recovered"):
            self.assertEqual(("stop", [("r1", "reattached")]), (e["previous_end"], [(f["id"], f["became"]) for f in e["in_flight"]]))

    def check_steers(self):
        self.assertEqual([], self.steering.wrong)
        accepted = [(e["text"], e["steer"], e["seq"]) for e in self.of("model", "steer.accepted")]
        self.assertEqual(self.steering.acked, accepted)
        for kind in ("steer.delivered", "steer.seen"):
            self.assertEqual([s for _, s, _ in accepted], [e["steer"] for e in self.of("model", kind)])
        texts = self.requests("model")[-1].texts()
        self.assertEqual([t for t, _, _ in accepted], [t for t in texts if t.startswith("steer ")])

    def check_watchers(self):
        journal = self.journals["model"]
        out, err = self.follow.communicate(timeout=60)  # it ends with its task
        seen = [json.loads(line) for line in out.splitlines()]
        if self.follow.returncode != -signal.SIGKILL:
            self.assertEqual((0, journal), (self.follow.returncode, seen), err)
        every = sorted((e for events in self.journals.values() for e in events), key=lambda e: e["pos"])
        poll(lambda: self.watching.pos >= every[-1]["pos"], what="the last event")
        self.watching.over.set()
        self.watching.join(60)
        mine = [e for e in self.watching.events if e["pos"] <= every[-1]["pos"]]
        self.assertEqual(every, mine)

    def check_all(self, restarts):
        self.finish()
        self.check_tools()
        self.check_model(restarts)
        self.check_steers()
        self.check_watchers()

    def runners(self):
        return {pid for pid, line in processes_of(self.p.dir).items() if line.startswith("agentd-runner")}

    def supervisors(self):
        return [line for line in processes_of(self.p.dir).values() if "agentd-supervise" in line]


class Restarts(Load):
    def test_twelve_restarts_in_a_row_slow(self):
        self.begin()
        self.load()
        self.follow.kill()  # it takes ten losses in a row for a daemon that cannot live
        for _ in range(12):
            self.restart()
        self.check_all(12)

    def test_other_programs_in_the_same_place(self):
        """As a package manager puts them there; the runners at work are those of before."""
        self.begin()
        self.load()
        runners = self.runners()
        self.assertEqual(3, len(runners))
        for version in (OTHER, self.here.version, OTHER):
            self.here.put(version)
            self.assertEqual(version, self.restart()["version"])
        self.assertEqual(runners, self.runners())
        for pid in runners:
            self.assertIn("(deleted)", os.readlink(f"/proc/{pid}/exe"))
        self.check_all(3)
        self.ctl("run", "server: once more", check=0)  # a run of the new runner

    def test_another_installation(self):
        """The restart is that of the agentctl that is asked for it: it starts the agentd that belongs to it, and its supervisor stays."""
        self.begin()
        there = Installed(self.p.dir / "there", OTHER)
        self.load()
        said = self.ctl("daemon", "status", check=0).stdout
        self.assertNotIn("daemon restart", said)
        said = there.ctl(self.p, "daemon", "status", check=0).stdout
        self.assertRegex(said, rf"this agentctl is {re.escape(OTHER)}; agentctl daemon restart")
        now = self.restart(lambda *a, **k: there.ctl(self.p, *a, **k))
        self.assertEqual((OTHER, str(there.libexec / "agentd")), (now["version"], self.exe(now["pid"])))
        poll(lambda: not [1 for line in self.supervisors() if str(self.here.folder) in line], what="the end of the old supervisor")
        os.kill(now["pid"], signal.SIGKILL)  # whoever watches starts the same one again
        pid = poll(lambda: [d for d in daemons_of(self.p.state_dir) if d != now["pid"]], what="another daemon")[0]
        self.assertEqual(str(there.libexec / "agentd"), self.exe(pid))
        self.assertEqual(1, len(self.supervisors()))
        self.here.remove()
        self.here = there
        poll(lambda: there.ctl(self.p, "daemon", "status").returncode == 0)
        self.finish()
        self.check_tools()
        self.check_steers()
        self.check_watchers()

    @staticmethod
    def exe(pid):
        return os.readlink(f"/proc/{pid}/exe")

    def test_a_client_from_before_the_update_starts_what_is_there_now(self):
        """Daemon and supervisor die of the update; the one that still looks on belongs to the files that are gone."""
        self.begin()
        self.load()
        self.here.put(OTHER)
        old = self.daemon()["pid"]
        for pid, line in processes_of(self.p.dir).items():
            if "agentd-supervise" in line:
                os.kill(pid, signal.SIGKILL)
        os.kill(old, signal.SIGKILL)
        pid = poll(lambda: [d for d in daemons_of(self.p.state_dir) if d != old], what="a daemon that the follower starts")[0]
        self.assertEqual(str(self.here.libexec / "agentd"), self.exe(pid))
        poll(lambda: self.ctl("daemon", "status").returncode == 0, what="a daemon that listens")
        self.assertEqual(OTHER, self.daemon()["version"])
        self.finish()
        self.check_tools()
        self.check_steers()
        self.check_watchers()


class Refused(Load):
    """What is older than the database starts nothing and harms nothing."""
    allowed_errors = (r"written by a newer agentd",)

    def set_version(self, change):
        db = sqlite3.connect(self.p.state_dir / "agentd.db")
        before = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {before + change}")
        db.commit()
        db.close()

    def test_an_older_daemon_says_so_and_tools_outlive_it(self):
        self.begin()
        self.load()
        self.steering.over.set()
        self.steering.join(60)
        self.ctl("daemon", "stop", check=0)
        poll(lambda: not self.supervisors(), what="the end of the supervisor")
        self.follow.kill()
        runners = self.runners()
        self.set_version(+1)  # as a newer one leaves it
        for words in (("daemon", "start"), ("run", "more work"), ("daemon", "restart")):
            done = self.ctl(*words)
            self.assertNotEqual(0, done.returncode)
            self.assertIn("the daemon did not start", done.stderr)
            self.assertRegex(done.stderr, r"written by a newer agentd \(schema \d+, this one knows \d+\): install the newer version; nothing was changed")
            poll(lambda: not self.supervisors(), what="nobody who tries it for ever")
        self.assertEqual(runners, self.runners())
        self.set_version(-1)
        self.ctl("daemon", "start", check=0)
        before = self.served()
        poll(lambda: self.served() != before, what="the server in the background lives")
        self.finish()
        self.check_tools()
        self.check_steers()

    def test_a_restart_into_an_older_one_says_so(self):
        """The database belongs to a newer one that is gone, and the restart finds that out."""
        self.begin()
        self.load()
        self.steering.over.set()
        self.steering.join(60)
        runners = self.runners()
        there = Installed(self.p.dir / "there", OTHER)
        stub = self.here.libexec / "agentd"
        stub.rename(stub.with_name("agentd-true"))
        stub.write_text("#!/bin/sh\necho '2026-01-01T00:00:00.000Z ERROR the database was written by a newer agentd (schema 9, this one knows "
                        "1): install the newer version; nothing was changed' >&2\nexit 65\n")
        stub.chmod(0o755)
        done = self.ctl("daemon", "restart")
        self.assertNotEqual(0, done.returncode)
        self.assertIn("install the newer version", done.stderr)
        self.assertEqual(runners, self.runners())
        there.ctl(self.p, "daemon", "start", check=0)
        self.here = there
        self.finish()
        self.check_tools()
        self.check_steers()


class Protocol(Case):
    """A daemon that speaks another protocol: nothing is guessed."""

    def serve(self, answer):
        import socket as sockets
        self.p = self.place()
        self.p.socket.parent.mkdir(mode=0o700)
        listener = sockets.socket(sockets.AF_UNIX)
        listener.bind(str(self.p.socket))
        listener.listen()
        self.addCleanup(listener.close)

        def talk():
            while True:
                try:
                    conn, _ = listener.accept()
                except OSError:
                    return
                with conn, conn.makefile("r") as lines:
                    for line in lines:
                        request = json.loads(line)
                        conn.sendall(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer(request)}).encode() + b"\n")
        threading.Thread(target=talk, daemon=True).start()

    @staticmethod
    def error(code, name, hint):
        return {"error": {"code": code, "message": name.replace("_", " "), "data": {"name": name, "hint": hint}}}

    def test_one_of_another_protocol_is_named(self):
        self.serve(lambda _: self.error(-32002, "protocol_unsupported", "This daemon speaks protocol 2; update the older of the two."))
        for words in (("status",), ("run", "work"), ("daemon", "restart"), ("daemon", "stop")):
            done = self.p.ctl(*words)
            self.assertNotEqual(0, done.returncode, words)
            self.assertIn("speaks protocol 2; update the older of the two", done.stderr)
        self.assertEqual({}, processes_of(self.p.dir), "no second daemon is started beside it")

    def test_what_an_older_one_does_not_know_is_no_riddle(self):
        def answer(request):
            if request["method"] == "initialize":
                return {"result": {"protocol": 1, "server": {"name": "agentd", "version": "0.0.1"}, "state_dir": str(self.p.state_dir),
                                   "role": "owner", "capabilities": []}}
            return self.error(-32601, "method_not_found", "rpc/describe lists the methods.")
        self.serve(answer)
        done = self.p.ctl("models")
        self.assertEqual(1, done.returncode)
        self.assertRegex(done.stderr, r"The daemon is 0\.0\.1 and this agentctl \S+: agentctl daemon restart brings them together")


if __name__ == "__main__":
    unittest.main()
