"""Databases of every released schema (tests/fixtures): the daemon of today brings each to its own schema, keeps a copy of the old one,
and each task goes on where a daemon of that time was killed."""
import pathlib
import sqlite3
import sys
import unittest

from lib import Case, Daemon, ROOT

sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

import fixture  # noqa: E402

NEWEST = len(list((ROOT / "migrations").glob("0*.sql")))
# What a start tells of each that had something in flight; of the others it tells nothing.
BECAME = {"cut": [("model", "resent")], "large": [("model", "resent")], "steered": [("model", "resent")],
          "run-cut": [("run", "in_doubt")], "run-ended": [("run", "ended")]}
GO_ON = ("cut", "large", "steered", "backoff", "run-cut", "run-ended", "queued")


def bare(event):
    return {k: v for k, v in event.items() if k != "subscription"}


class Fixtures(Case):
    def open(self, schema, boot=fixture.BOOT):
        self.d = Daemon(fixture.new_folder())
        self.m = self.model(lambda request: {"say": "done after the upgrade"})
        self.d.write_config(self.m.base_url)
        self.addCleanup(self._finish, self.d)
        # Within a boot a back-off counts by the boot's clock, and that one was another machine's.
        self.go_on = [n for n in GO_ON if n != "backoff" or boot == fixture.BOOT]
        self.f = fixture.Fixture(schema, self.d, self.m.port, boot)
        self.ids = {name: task["id"] for name, task in self.f.tasks.items()}
        self.d.start()
        self.c = self.d.client()
        for task in self.ids.values():
            self.c.subscribe(task=task, after_seq=0, deltas=True)

    def each_schema(self, check, boot=fixture.BOOT):
        self.assertIn(1, fixture.schemas())
        for schema in fixture.schemas():
            with self.subTest(schema=schema):
                self.open(schema, boot)
                check()
                self.doCleanups()

    # ---- what holds of each ----

    def check_database(self):
        self.assertEqual((NEWEST, "ok"), self.look(self.d.state_dir / "agentd.db"))
        copy = self.d.state_dir / f"agentd.db.schema{self.f.schema}"
        if self.f.schema < NEWEST:
            self.assertEqual((self.f.schema, "ok"), self.look(copy))
        self.assertEqual(self.f.schema < NEWEST, copy.exists())

    @staticmethod
    def look(path):
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return db.execute("PRAGMA user_version").fetchone()[0], db.execute("PRAGMA integrity_check").fetchone()[0]
        finally:
            db.close()

    def requests(self, name):
        return [r for r in self.m.requests if r.texts()[0].startswith(f"{name}:")]

    def check_old_events(self):
        """What was said before is said again, byte by byte."""
        for name, task in self.ids.items():
            old = self.f.events(name)
            now = self.d.ctl("log", "--json", task, check=0).stdout.splitlines()
            self.assertEqual(old, now[:len(old)], name)

    def check_prompts(self):
        """The first request of each begins with all of the last one; one that was cut is the same again."""
        for name in self.ids:
            before, after = self.f.request(name), self.requests(name)
            if not after or before is None:
                continue
            body = after[0].body
            self.assertTrue(body.startswith(before[:-2]), f"{name}:\n{before[-300:]}\n{body[len(before) - 300:len(before) + 300]}")
            if BECAME.get(name) == [("model", "resent")] and name != "steered":
                self.assertEqual(before, body, name)

    def check_tasks(self):
        c = self.c
        for name in self.go_on:
            c.wait_state(self.ids[name], "completed")
        for name in ("completed", "failed", "cancelled", "paused", "open"):
            state = c.call("task/get", task=self.ids[name])["task"]["state"]
            self.assertEqual(self.f.tasks[name]["state"], state, name)
            self.assertEqual([], self.requests(name))
        for name, task in self.ids.items():
            told = [[(f["what"], f["became"]) for f in e["in_flight"]] for e in c.of(task, "recovered")]
            self.assertEqual([BECAME[name]] if name in BECAME else [], told, name)

    def check_steers(self):
        c, task = self.c, self.ids["steered"]
        for kind in ("accepted", "delivered", "seen"):
            self.assertEqual(["s1", "s2"], [e["steer"] for e in c.of(task, f"steer.{kind}")])
        texts = self.requests("steered")[-1].texts()
        self.assertEqual(["go next", "go queue"], [t for t in texts if t.startswith("go ")])
        # Said again under its key, it is what it was.
        for n, delivery in ((1, "next"), (2, "queue")):
            again = c.call("task/steer", task=task, text=f"go {delivery}", delivery=delivery, key=f"steer-{delivery}")
            accepted = c.of(task, "steer.accepted", steer=f"s{n}")
            self.assertEqual([{"steer": f"s{n}", "seq": accepted[0]["seq"]}], [again])

    def check_runs(self):
        outputs = "".join(self.requests("run-cut")[-1].outputs())
        self.assertIn("began", outputs)
        self.assertRegex(outputs, "IN DOUBT")
        self.assertEqual(["in_doubt"], [e["outcome"] for e in self.c.of(self.ids["run-cut"], "run.ended")])
        self.assertEqual([("done", 0)], [(e["outcome"], e["exit_code"]) for e in self.c.of(self.ids["run-ended"], "run.ended")])
        self.assertIn("began\nover\n", self.requests("run-ended")[-1].outputs()[-1])
        self.assertFalse(any(len(self.c.of(task, "run.started")) > 2 for task in self.ids.values()), "nothing was started again")

    def check_woken(self):
        """Those that rest take their work up when they are told to."""
        c = self.c
        c.call("task/resume", task=self.ids["paused"])
        c.wait_state(self.ids["paused"], "completed")
        self.assertIn("mind the gap", self.requests("paused")[-1].texts())
        for name in ("completed", "failed", "cancelled", "open"):
            ended = len(c.of(self.ids[name], "turn.ended"))
            c.call("task/steer", task=self.ids[name], text="and now this")
            c.wait_event(self.ids[name], "turn.ended", n=ended + 1)
            self.assertEqual("and now this", self.requests(name)[-1].texts()[-1])
        c.wait_state(self.ids["open"], "waiting")

    def check_gapless(self):
        for task in self.ids.values():
            journal = self.c.journal(task)
            self.assertEqual(list(range(1, len(journal) + 1)), [e["seq"] for e in journal])
            self.c.wait_for(lambda: len(self.c.of(task)) >= len(journal), what="the last event")
            self.assertEqual(journal, [bare(e) for e in self.c.of(task)][:len(journal)])

    def check_all(self):
        self.check_tasks()
        self.check_database()
        self.check_old_events()
        self.check_steers()
        self.check_runs()
        self.check_woken()
        self.check_prompts()
        self.check_old_events()
        self.check_gapless()
        self.again()

    def again(self):
        """The next start finds nothing to change, and tells nothing new."""
        before = {task: self.c.journal(task) for task in self.ids.values()}
        copies = {p.name: p.stat().st_mtime_ns for p in self.d.state_dir.glob("agentd.db.schema*")}
        self.d.stop()
        self.d.start()
        self.c = self.d.client()
        self.assertEqual(before, {task: self.c.journal(task) for task in self.ids.values()})
        self.assertEqual(copies, {p.name: p.stat().st_mtime_ns for p in self.d.state_dir.glob("agentd.db.schema*")})

    def test_each_migrates_and_goes_on_after_a_reboot(self):
        self.each_schema(self.check_all)

    def test_each_migrates_and_goes_on_within_its_boot(self):
        self.each_schema(self.check_all, fixture.this_boot())

    def test_the_views_of_today_show_it(self):
        def views():
            for name, task in self.ids.items():
                self.assertEqual(name, self.c.call("task/get", task=task)["task"]["name"])
                self.d.ctl("log", task, check=0)
            self.assertEqual(set(self.ids.values()), {t["id"] for t in self.c.call("task/list", all=True)["tasks"]})
            self.d.ctl("doctor", check=0)
            self.d.ctl("backup", self.d.dir / "copy", check=0)
            self.assertEqual(NEWEST, self.look(pathlib.Path(self.d.dir / "copy"))[0])
            for name in self.go_on:
                self.c.wait_state(self.ids[name], "completed")
        self.each_schema(views)


if __name__ == "__main__":
    unittest.main()
