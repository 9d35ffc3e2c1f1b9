"""A journal that cannot be written ends the daemon, which comes back and reads again; after three such ends in ten minutes it serves
read-only, from a copy, until it can write. A build with failpoints plays the disk: what AGENTD_FAILING lists fails meanwhile."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

from lib import AGENTCTL, AGENTD, BUILD, ROOT, Case, Client, Closed, RpcError, poll, sh

sys.path.insert(0, str(ROOT / "tests" / "faults"))
import oplog  # noqa: E402

READ_ONLY = -32020
ERRORS = [r"the journal cannot be written", r"the tasks cannot be read", r"cannot read agentd\.db", r"as a test wants it",
          r"no copy of the database could be made",
          r"the end of the journal cannot be read"]


class ReadOnly(Case):
    allowed_errors = ERRORS

    def setUp(self):
        super().setUp()
        if b"AGENTD_FAILING" not in AGENTD.read_bytes():
            self.skipTest("a build without failpoints")

    def begin(self, steps, **limits):
        self.m = self.model(steps, by_turn=True)
        self.p = p = self.place()
        p.write_config(self.m.base_url, limits=limits)
        self.failing = p.dir / "failing"
        p.env["AGENTD_FAILING"] = str(self.failing)
        self.addCleanup(self.end)
        p.ctl("daemon", "start", check=0)
        return p

    def end(self):
        self.failing.unlink(missing_ok=True)
        self.p.ctl("daemon", "restart")
        self.p.ctl("daemon", "stop")

    def status(self):
        try:
            with Client(self.p.socket, problems=[], timeout_s=5) as c:
                return c.call("daemon/status")["daemon"]
        except (OSError, AssertionError, Closed):
            return None

    def wait_admission(self, wanted):
        def there():
            status = self.status()
            return status if status and status["admission"] == wanted else None
        return poll(there, what=f"a daemon whose admission is {wanted}")

    def break_down(self, *names):
        self.failing.write_text("\n".join(names))

    def client(self):
        c = Client(self.p.socket, problems=self.p.problems)
        self.addCleanup(c.close)
        return c

    def test_it_serves_what_there_is_and_writes_again(self):
        large = "python3 -c \"print('x' * 200000)\""
        tick = "while [ ! -e ../enough ]; do echo tick >> ../ticks; sleep 0.05; done"
        p = self.begin([{"calls": [sh(large, limit=250000)]}, {"calls": [sh(tick, 300000)]}, {"say": "Done."}])
        c = self.client()
        task = c.create(p.workspace, name="one")
        c.subscribe(task=task, after_seq=0)
        poll(lambda: (p.dir / "ticks").exists(), what="the tool at work")
        before = c.journal(task)
        c.close()

        self.break_down("store.commit")
        waits = p.ctl_start("wait", "one", stdout=subprocess.DEVNULL)
        try:
            p.ctl("steer", "one", "this meets the disk", timeout_s=60, env=dict(p.env, AGENTD_FAILING=""))
        except subprocess.TimeoutExpired:
            pass
        shown = self.wait_admission("read_only")
        self.assertIn("as a test wants it", shown["read_only"]["reason"])
        self.assertTrue(os.path.isdir(shown["read_only"]["copy"]))
        self.assertGreaterEqual(shown["failure"]["count"], 3)
        self.assertEqual(1, shown["tasks_live"])
        self.read_only_views(p, task, before)
        self.nothing_changes(p)
        self.assertRegex(p.ctl("wait", "one", "--timeout", "1s", check=6).stderr, "read-only, nothing goes on .*as a test wants it")
        size = (p.dir / "ticks").stat().st_size
        poll(lambda: (p.dir / "ticks").stat().st_size > size, what="the tool that works on")

        # Still broken: it comes back to the mode by itself, and at once.
        p.ctl("daemon", "restart")
        again = self.wait_admission("read_only")
        self.assertGreater(again["failure"]["count"], shown["failure"]["count"])

        self.failing.unlink()
        p.ctl("daemon", "restart", check=0)
        self.wait_admission("open")
        self.assertFalse(os.path.exists(shown["read_only"]["copy"]))
        c = self.client()
        self.assertEqual(before, c.journal(task)[:len(before)])
        p.ctl("steer", "one", "go on", check=0)
        (p.dir / "enough").touch()
        c.subscribe(task=task, after_seq=0)
        c.wait_state(task, "completed")
        self.assertIn("read-only, nothing goes on", waits.communicate(timeout=60)[1])
        self.assertEqual(0, waits.returncode)
        seqs = [e["seq"] for e in c.journal(task)]
        self.assertEqual(list(range(1, len(seqs) + 1)), seqs)
        checks = {k["name"]: k for k in json.loads(p.ctl("doctor", "--json").stdout)["checks"]}
        self.assertFalse(checks["journal"]["ok"])  # it is told what happened
        self.assertIn("as a test wants it", checks["journal"]["detail"])
        self.assertIn("an agentd ended at", p.ctl("daemon", "status", check=0).stdout)
        left = shown["read_only"]["copy"]  # as by a daemon that was killed in the mode
        os.mkdir(left, 0o700)
        pathlib.Path(left, "agentd.db").write_text("precious")
        p.ctl("daemon", "restart", check=0)
        self.assertFalse(os.path.exists(left))

    def read_only_views(self, p, task, before):
        c = self.client()
        c.subscribe(task=task, after_seq=0)
        self.assertEqual(before, poll(lambda: c.journal(task)[:len(before)]))
        self.assertTrue(any(len(e.get("text", "")) > 150000 or "x" * 1000 in json.dumps(e) for e in c.journal(task)))
        self.assertEqual([task], [t["id"] for t in c.call("task/list")["tasks"]])
        done = p.ctl("status", check=0)
        self.assertIn("one", done.stdout)
        self.assertRegex(done.stderr, r"read-only since \d{4}-.*as a test wants it.*daemon restart")
        self.assertIn("tick", p.ctl("log", "one", check=0).stdout)
        self.assertIn("read-only since", p.ctl("daemon", "status", check=0).stdout)
        doctor = p.ctl("doctor", check=1)
        self.assertRegex(doctor.stdout, r"FAIL.* journal: read-only: .*as a test wants it")
        self.assertRegex(doctor.stdout, r"ok .* database: whole")
        p.ctl("backup", p.dir / "copy.db", check=0)  # a way off the disk

    def nothing_changes(self, p):
        for change in (("run", "x"), ("steer", "one", "x"), ("cancel", "one"), ("pause", "one"), ("resume", "one")):
            done = p.ctl(*change, check=1)
            self.assertRegex(done.stderr, r"read-only: .*as a test wants it")
            self.assertIn("agentctl daemon restart", done.stderr)
        with self.assertRaises(RpcError) as refused:
            self.client().call("task/create", prompt="x", workspace=str(p.workspace))
        self.assertEqual(READ_ONLY, refused.exception.code)

    def test_it_tries_again_by_itself(self):
        p = self.begin([{"say": "ok"}], read_only_retry_ms=1000)
        p.ctl("run", "x", check=0)
        p.ctl("wait", "@last", check=0)
        self.break_down("store.open")
        pid = self.status()["pid"]
        p.ctl("daemon", "restart")
        shown = self.wait_admission("read_only")
        self.assertIn("cannot read agentd.db", shown["read_only"]["reason"])
        self.assertNotEqual(pid, shown["pid"])
        self.wait_other(shown["pid"])  # the folder can be written, the journal not: it tries, and fails
        self.failing.unlink()
        self.wait_admission("open")
        p.ctl("run", "y", check=0)

    def test_events_are_numbered_from_the_end_of_the_journal(self):
        p = self.begin([{"say": "ok"}])
        p.ctl("run", "x", check=0)
        p.ctl("daemon", "stop", check=0)
        self.break_down("store.pos_last")
        p.ctl("daemon", "start", check=0)
        shown = self.wait_admission("read_only")
        self.assertIn("the end of the journal cannot be read", shown["failure"]["reason"])
        self.failing.unlink()
        p.ctl("daemon", "restart", check=0)
        self.wait_admission("open")
        p.ctl("run", "y", check=0)
        with self.client() as c:
            first, second = ([e["pos"] for e in c.journal(t["id"])] for t in reversed(c.call("task/list", all=True)["tasks"]))
        self.assertEqual(sorted(first + second), first + second)

    def wait_other(self, pid):
        def other():
            status = self.status()
            return status and status["pid"] != pid and status["admission"] == "read_only"
        poll(other, what="another try")

    def test_one_failure_is_told_and_no_more(self):
        p = self.begin([{"say": "ok"}])
        self.break_down("store.commit")
        started = p.ctl_start("run", "x", "--key", "once", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        poll(lambda: "ended with status 74" in p.log_text(), what="the end of the daemon")
        self.failing.unlink()
        status = self.wait_admission("open")
        self.assertIn("as a test wants it", status["failure"]["reason"])
        self.assertIsNone(status["read_only"])
        self.assertEqual(0, started.wait(60))
        self.assertEqual(1, len(self.client().call("task/list", all=True)["tasks"]))

    def test_no_room_for_the_copy(self):
        p = self.begin([{"say": "ok"}])
        p.ctl("daemon", "stop", check=0)
        p.env["TMPDIR"] = "/proc"
        self.break_down("store.open")
        started = p.ctl_start("daemon", "start", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        poll(lambda: "Set TMPDIR to a folder with room" in p.log_text(), what="the sentence")
        self.failing.unlink()
        self.wait_admission("open")  # every other start tries
        started.wait(60)


class Interposed(Case):
    allowed_errors = [r"the journal cannot be written", r"the tasks cannot be read", r"cannot ", r"Input/output error"]

    def test_a_disk_that_does_not_sync_any_more(self):
        """The system calls fail, first the sync of the log, then all that changes a file, in the folder that holds the state folder, too;
        the copy is elsewhere."""
        self.m = self.model([{"say": "ok"}] * 30, by_turn=True)
        p = self.place()
        p.write_config(self.m.base_url)
        disk = p.dir / "disk"
        disk.mkdir()
        p.state_dir = disk / "state"
        p.env["AGENTD_STATE_DIR"] = str(p.state_dir)
        log = oplog.Log(p.dir / "operations")
        self.addCleanup(log.close)
        p.env.update(oplog.environment(BUILD, log, disk, fail="agentd sync *-wal 12 5 on"))
        p.env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
        self.addCleanup(lambda: p.ctl("daemon", "stop"))
        p.ctl("daemon", "start", check=0)
        p.ctl_start("run", "work", "--name", "one", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait(60)
        for _ in range(20):  # until the disk fails
            if self.status(p):
                break
            try:
                p.ctl("steer", "one", "more", timeout_s=20)
            except subprocess.TimeoutExpired:
                pass
        poll(lambda: self.status(p), what="the daemon that only shows")
        self.assertIn("Input/output error", self.status(p)["reason"])
        self.assertIn("one", p.ctl("status", "--all", check=0).stdout)
        seen = p.ctl("log", "one", "--json", check=0).stdout.splitlines()
        self.assertTrue(seen)
        log.put(oplog.LIFTED, 1)
        p.ctl("daemon", "restart", check=0)
        poll(lambda: not self.status(p), what="a daemon that writes")
        p.ctl("steer", "one", "last", check=0)
        p.ctl("wait", "one", check=0)
        self.assertEqual(seen, p.ctl("log", "one", "--json", check=0).stdout.splitlines()[:len(seen)])

    def status(self, p):
        try:
            with Client(p.socket, problems=[], timeout_s=5) as c:
                return c.call("daemon/status")["daemon"]["read_only"]
        except (OSError, AssertionError, Closed):
            return None


class Mounted(Case):
    def test_a_file_system_that_became_read_only(self):
        d = self.daemon([{"say": "The answer is 42."}], start=False)
        d.state_dir.mkdir(mode=0o700)
        mount = f'mount -t tmpfs -o size=64m,mode=700 none {d.state_dir} && "$@" ; mount -o remount,ro {d.state_dir} && exec "$@"'
        if subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", "true"], capture_output=True).returncode:
            self.skipTest("no right to mount a file system here")
        with open(d.dir / "daemon.stderr", "ab") as err:
            d.process = subprocess.Popen(
                ["unshare", "-rm", "sh", "-c", mount, "sh", str(AGENTD), "--foreground", "--state-dir", str(d.state_dir), "--socket",
                 str(d.socket), "--config", str(d.config)], env=d.env, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        d.wait_ready()
        with Client(d.socket, problems=d.problems) as c:
            task = c.create(d.workspace, name="one")
            c.subscribe(task=task, after_seq=0)
            c.wait_state(task, "completed")
            before = c.journal(task)
            c.call("daemon/shutdown")
        d.wait_ready()
        c = d.client()
        c.subscribe(task=task, after_seq=0)
        self.assertEqual(before, poll(lambda: c.journal(task)))
        self.assertIn("mounted read-only", c.call("daemon/status")["daemon"]["read_only"]["reason"])
        with self.assertRaises(RpcError) as refused:
            c.call("task/steer", task=task, text="x")
        self.assertEqual(READ_ONLY, refused.exception.code)

    def test_a_socket_that_finds_no_room_is_tried_again(self):
        p = self.place()
        p.write_config("http://127.0.0.1:9/v1")
        p.socket.parent.mkdir(mode=0o700)
        script = (f'mount -t tmpfs -o nr_inodes=2,mode=700 none {p.socket.parent} && touch {p.socket.parent}/full || exit 99; '
                  f'exec {AGENTD} --foreground')
        done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, env=p.env, text=True, timeout=120)
        if done.returncode == 99 or "unshare:" in done.stderr:
            self.skipTest("no right to mount a file system here")
        self.assertEqual(73, done.returncode, done.stderr)  # which is started again, see lifecycle.h
        self.assertIn("No space left", done.stderr)

    def test_it_is_started_there_though_its_log_cannot_be_written(self):
        m = self.model([{"say": "ok"}])
        p = self.place()
        p.write_config(m.base_url)
        p.state_dir.mkdir(mode=0o700)
        script = (f'mount -t tmpfs -o size=64m,mode=700 none {p.state_dir} || exit 99; ctl={AGENTCTL}; '
                  f'$ctl run x && $ctl daemon stop && for i in $(seq 600); do mount -o remount,ro {p.state_dir} && break; sleep 0.1; done && '
                  '$ctl daemon start && $ctl status && $ctl wait @last; code=$?; $ctl daemon stop; exit $code')
        done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, env=p.env, cwd=p.workspace, text=True, timeout=120,
                              stdin=subprocess.DEVNULL)
        if done.returncode == 99 or "unshare:" in done.stderr:
            self.skipTest("no right to mount a file system here")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("mounted read-only", done.stderr)


if __name__ == "__main__":
    unittest.main()
