"""A backup is one checked file that starts again as a whole state, made while tasks run; what cannot be made leaves nothing."""
import json
import os
import pathlib
import shutil
import sqlite3
import stat
import subprocess
import unittest

from lib import AGENTD, Case, Daemon, RpcError, poll, schema, sh

LONG = 600000


class Backup(Case):
    def restore(self, copy):
        """A second daemon on an empty state folder that holds the copy, configured as the first."""
        r = self.place_of_daemon()
        r.state_dir.mkdir(mode=0o700)
        shutil.copy(copy, r.state_dir / "agentd.db")
        return r.start()

    def place_of_daemon(self):
        r = Daemon()
        r.write_config(self.m.base_url if self.m else None)
        self.addCleanup(self._finish, r)
        return r

    def rest(self, folder):
        return sorted(os.listdir(folder))

    def test_it_is_whole_and_starts_again(self):
        large = "python3 -c \"print('x' * 200000)\""  # stands in a file beside the database
        self.daemon([{"calls": [sh(large, limit=250000)]}, {"say": "The answer is 42."}])
        d = self.d
        c = d.client()
        task = c.create(d.workspace, name="one")
        c.wait_state(task, "completed")
        done = d.ctl("backup", "copy.db", check=0)  # relative: to the caller's folder
        path = d.workspace / "copy.db"
        self.assertIn(str(path), done.stdout)
        self.assertRegex(done.stdout, r"\d+(\.\d)? [kKMG]?B\n$")
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        self.assertEqual(["copy.db"], self.rest(d.workspace))
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.assertEqual("ok", db.execute("PRAGMA integrity_check").fetchone()[0])
        self.assertEqual(0, db.execute("SELECT count(*) FROM events WHERE hash IS NOT NULL").fetchone()[0])
        db.close()

        before = c.journal(task)
        r = self.restore(path)
        self.assertEqual(before, r.client().journal(task))
        self.assertIn("one", r.ctl("status", "--all", check=0).stdout)
        checks = json.loads(r.ctl("doctor", "--json", check=0).stdout)["checks"]
        self.assertEqual([True], [k["ok"] for k in checks if k["name"] == "database"])

    def test_while_tasks_run(self):
        """What was acknowledged before is in it; the tasks do not notice."""
        n = 4
        self.daemon([{"calls": [sh("echo effect >> effects; while [ ! -e go ]; do sleep 0.01; done", yield_ms=LONG)]} for _ in range(n)] +
                    [{"say": "ok"}] * (n + 1) * 2)
        d = self.d
        c, effects = d.client(), d.workspace / "effects"
        tasks = [c.create(d.workspace) for _ in range(n)]
        for task in tasks:
            c.wait_event(task, "run.started")
        poll(lambda: effects.exists() and effects.read_text() == "effect\n" * n, what="all tools at work")
        steer = c.call("task/steer", task=tasks[0], text="Look at this, too.", delivery="queue")
        result = json.loads(d.ctl("backup", "--json", d.dir / "copy.db", check=0).stdout)
        schema.check_result("daemon/backup", result)
        self.assertEqual({"path": str(d.dir / "copy.db"), "bytes": (d.dir / "copy.db").stat().st_size}, result)
        (d.workspace / "go").touch()
        for task in tasks:
            c.wait_state(task, "completed")
        d.stop()

        r = self.restore(d.dir / "copy.db")  # a machine where none of the runs is
        c = r.client()
        self.assertEqual(set(tasks), {t["id"] for t in c.call("task/list", all=True)["tasks"]})
        self.assertIn(steer["steer"], [e.get("steer") for e in c.journal(tasks[0]) if e["kind"] == "steer.accepted"])
        for task in tasks:
            c.subscribe(task=task, after_seq=0)
            # What stood beside the database is not there, and that does not mean that it never ran.
            self.assertEqual(["in_doubt"], [f["became"] for f in c.wait_event(task, "recovered")["in_flight"]])
            c.wait_state(task, "completed")
        self.assertEqual("effect\n" * n, effects.read_text())
        r.stop()
        r.start()  # once: from now on its state is its own
        self.assertEqual(n, sum(len([e for e in r.client().journal(t) if e["kind"] == "recovered"]) for t in tasks))

    def refuse(self, path, words, name="backup_failed"):
        done = self.d.ctl("backup", path, check=1)
        self.assertIn(words, done.stderr)
        self.assertEqual("", done.stdout)
        with self.assertRaises(RpcError) as e:
            self.d.client().call("daemon/backup", path=str(path))
        self.assertEqual(name, e.exception.name)

    def test_what_cannot_be_is_said_and_leaves_nothing(self):
        d = self.daemon([{"say": "ok"}])
        folder = d.dir / "folder"
        folder.mkdir()
        (folder / "mine").write_text("mine")
        self.refuse(folder / "mine", "exists already")
        (folder / "link").symlink_to("nowhere")
        self.refuse(folder / "link", "exists already")
        self.refuse(folder, "is a folder")
        self.refuse(folder / "no" / "copy", "No such file or directory")
        self.refuse(folder / "mine" / "copy", "Not a directory")
        self.refuse(d.state_dir / "copy", "state folder")
        self.refuse(folder / ("n" * 250), "too long")
        if os.geteuid() != 0:
            folder.chmod(0o500)
            self.refuse(folder / "copy", "Permission denied")
            folder.chmod(0o700)
        self.assertEqual("mine", (folder / "mine").read_text())
        self.assertEqual(["link", "mine"], self.rest(folder))
        self.assertNotIn("copy", self.rest(d.state_dir))
        with self.assertRaises(RpcError) as e:
            d.client().call("daemon/backup", path="copy")
        self.assertEqual("invalid_params", e.exception.name)
        d.ctl("backup", "", check=2)
        d.ctl("backup", check=2)
        # What was refused is no matter of the tasks.
        c = d.client()
        c.wait_state(c.create(d.workspace), "completed")

    def test_two_at_once_are_made_one_after_the_other(self):
        d = self.daemon([])
        started = [d.ctl_start("backup", d.dir / f"copy-{i}") for i in (1, 2, 2)]
        ends = sorted((p.communicate(timeout=60), p.returncode) for p in started)
        self.assertEqual([0, 0, 1], sorted(code for _, code in ends))
        self.assertEqual(["copy-1", "copy-2"], [n for n in self.rest(d.dir) if n.startswith("copy")])

    def test_a_full_place(self):
        d = self.daemon([{"say": "ok"}], start=False)
        small = d.dir / "small"
        small.mkdir()
        mount = f"mount -t tmpfs -o size=64k none {small} && exec \"$@\""
        if subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", "true"], capture_output=True).returncode:
            self.skipTest("no right to mount a small disk here")
        with open(d.dir / "daemon.stderr", "ab") as err:
            d.process = subprocess.Popen(
                ["unshare", "-rm", "sh", "-c", mount, "sh", str(AGENTD), "--foreground", "--state-dir", str(d.state_dir), "--socket",
                 str(d.socket), "--config", str(d.config)], env=d.env, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        d.wait_ready()
        self.refuse(small / "copy", "are free there")
        inside = pathlib.Path(f"/proc/{d.pid}/root{small}")
        self.assertEqual([], self.rest(inside))
        c = d.client()
        c.wait_state(c.create(d.workspace), "completed")

    def test_what_a_killed_daemon_has_left(self):
        """The next one removes it, and nothing else that only looks like it."""
        if b"AGENTD_FAILPOINT" not in AGENTD.read_bytes():
            self.skipTest("a build without failpoints")
        d = self.daemon([], start=False)
        bare, d.env = d.env, dict(d.env, AGENTD_FAILPOINT="store.backup.slice")
        d.start()
        d.client().send("daemon/backup", path=str(d.dir / "copy"))
        self.assertEqual(-9, d.process.wait(60))
        d.process = None
        left = [n for n in self.rest(d.dir) if n.startswith("copy")]
        self.assertRegex(left[0], r"^copy\.partial-[0-9a-f]{8}$")
        (d.dir / "copy.partial-01234567").touch()
        d.env = bare
        d.start()
        self.assertEqual(["copy.partial-01234567"], [n for n in self.rest(d.dir) if n.startswith("copy")])
        d.ctl("backup", d.dir / "copy", check=0)
        self.assertEqual(["copy", "copy.partial-01234567"], [n for n in self.rest(d.dir) if n.startswith("copy")])
        self.assertFalse((d.state_dir / "backup").exists())

    def test_the_daemon_ends_meanwhile(self):
        """Stopped: the client is told, and nothing is left. The copy is there whole or not at all."""
        d = self.daemon([])
        ids = [d.client().send("daemon/backup", path=str(d.dir / f"copy-{i}")) for i in range(20)]
        self.assertTrue(ids)
        d.stop()
        for name in self.rest(d.dir):
            if name.startswith("copy"):
                db = sqlite3.connect(d.dir / name)
                self.assertEqual("ok", db.execute("PRAGMA quick_check").fetchone()[0])
                db.close()
        self.assertEqual([], [n for n in self.rest(d.dir) if "partial" in n])


if __name__ == "__main__":
    unittest.main()
