"""What has ended is archived, reads as before to everybody, and goes on from there; what is stored stays within its bounds."""
import json
import os
import socket
import sqlite3
import subprocess
import unittest

from lib import Case, Client, RpcError, poll, sh

NOW = {"archive_after_ms": 0}
LARGE = "python3 -c \"print('x' * 200000)\""  # stands in a file beside the database


class Retention(Case):
    def status(self):
        return json.loads(self.d.ctl("daemon", "status", "--json", check=0).stdout)["daemon"]["storage"]

    def archived(self, n):
        poll(lambda: self.status()["archived"] >= n, what=f"{n} archived tasks")

    def restart(self, **limits):
        self.d.stop()
        self.d.write_config(self.m.base_url, limits=limits)
        self.d.start()

    def views(self, task):
        """All ways to read a task, as bytes where there are bytes."""
        c = self.d.client()
        seen = {"log": self.d.ctl("log", "--json", task, check=0).stdout, "get": c.call("task/get", task=task)}
        end = c.call("task/events", task=task, limit=1)["end"]
        pages, after, before = [], 0, end + 1
        while after is not None:
            page = c.call("task/events", task=task, after=after, limit=3)
            pages.append(page["events"])
            after = page.get("next")
        back = []
        while before is not None:
            page = c.call("task/events", task=task, before=before, limit=4)
            back = page["events"] + back
            before = page.get("prev")
        self.assertEqual([e for p in pages for e in p], back)
        seen["pages"] = json.dumps(back)
        for name, at in (("start", {"after_seq": 0}), ("middle", {"after_seq": end // 2})):
            with Client(self.d.socket) as s:
                s.call("events/subscribe", task=task, **at)
                s.wait_for(lambda: any(e["seq"] == end for e in s.events), what="the end of the task")
                seen[name] = json.dumps([{k: v for k, v in e.items() if k != "subscription"} for e in s.events])
        with Client(self.d.socket) as s:
            s.call("events/subscribe", after_pos=0)
            s.wait_for(lambda: any(e["task"] == task and e["seq"] == end for e in s.events), what="the end of the task")
            mine = [e for e in s.events if e["task"] == task]
            self.assertEqual(list(range(1, end + 1)), [e["seq"] for e in mine])
            self.assertEqual(sorted(e["pos"] for e in s.events), [e["pos"] for e in s.events])
            seen["journal"] = json.dumps([{k: v for k, v in e.items() if k != "subscription"} for e in mine])
        return seen

    def test_an_archived_task_reads_as_before_and_goes_on(self):
        self.daemon([{"say": "looking", "calls": [sh("echo one"), sh(LARGE, limit=250000)]}, {"say": "first"},
                     {"calls": [sh("echo two")]}, {"say": "second"}, {"say": "third"}], by_turn=True)
        c = self.d.client()
        task = c.create(self.d.workspace, name="kept")
        c.wait_state(task, "completed")
        before = self.views(task)
        self.restart(**NOW)
        self.archived(1)
        poll(lambda: not os.listdir(self.d.state_dir / "blobs"), what="the large output in its block")
        poll(lambda: not (self.d.state_dir / "runs" / task).exists(), what="no folder of its runs")
        self.assertEqual(before, self.views(task))
        c = self.d.client()
        last = self.m.requests[-1]
        c.subscribe(task=task, after_seq=0)
        c.call("task/steer", task=task, text="Go on.")
        c.wait_event(task, "turn.ended", n=2)
        c.wait_state(task, "completed")
        new = self.m.requests[-1]
        self.assertEqual(last.items, new.items[:len(last.items)], "the prompt goes on from what was archived")
        self.assertGreater(len(os.path.commonprefix([last.body, new.body])), last.body.rindex(b"xxxx"), "byte by byte")
        self.archived(2)
        seqs = [e["seq"] for e in c.journal(task)]
        self.assertEqual(list(range(1, len(seqs) + 1)), seqs)
        checks = json.loads(self.d.ctl("doctor", "--json", check=0).stdout)["checks"]
        self.assertEqual([True], [k["ok"] for k in checks if k["name"] == "database"])

    def test_a_kill_in_the_middle_loses_nothing(self):
        n = 12
        self.daemon([{"say": "on", "calls": [sh(f"seq 1 {200 * i}") for i in range(1, 6)]}, {"say": "done"}], by_turn=True)
        c = self.d.client()
        tasks = [c.create(self.d.workspace, name=f"t{i}") for i in range(n)]
        for task in tasks:
            c.wait_state(task, "completed")
        before = {task: c.journal(task) for task in tasks}
        self.d.stop()
        self.d.write_config(self.m.base_url, limits=NOW)
        for _ in range(4):  # each start goes on where the one before was killed
            self.d.start()
            self.d.client().call("task/get", task=tasks[0])
            self.d.kill()
        self.d.start()
        poll(lambda: all(not (self.d.state_dir / "runs" / t).exists() for t in tasks), what="all tasks archived")
        c = self.d.client()
        for task in tasks:
            self.assertEqual(before[task], c.journal(task))

    def test_old_tasks_are_removed(self):
        self.daemon([{"say": "x" * 2000, "calls": [sh("echo x")]}, {"say": "done"}], by_turn=True, limits={**NOW, "keep_ms": 1})
        c = self.d.client()
        task = c.create(self.d.workspace, name="old")
        poll(lambda: self.status()["removed"] == 1, what="its removal")
        done = self.d.ctl("log", task)
        self.assertEqual(1, done.returncode, done)
        self.assertEqual([], self.d.client().call("task/list", all=True)["tasks"])
        self.assertIn(f"task {task} was removed", self.d.log_text())
        poll(lambda: not (self.d.state_dir / "runs" / task).exists(), what="no folder of its runs")
        again = c.create(self.d.workspace, name="old")
        self.assertNotEqual(task, again)
        poll(lambda: self.status()["removed"] == 2, what="its removal")

    def test_who_watches_a_task_that_is_removed_is_told(self):
        self.daemon([{"say": "done"}], by_turn=True, limits={**NOW, "keep_ms": 1})
        c = self.d.client()
        all_tasks = c.subscribe()
        task = c.call("task/create", prompt="x", workspace=str(self.d.workspace), name="gone", keep_open=True)["task"]
        first, second = c.subscribe(task=task, after_seq=0), c.subscribe(task=task, after_seq=1)
        c.wait_state(task, "waiting")
        watching = self.d.ctl_start("attach", "gone", stdin=subprocess.PIPE, text=True)
        self.addCleanup(watching.kill)
        self.assertIn("attached to gone", watching.stderr.readline())
        poll(lambda: c.call("daemon/status")["daemon"]["clients"] == 2, what="the client that watches")
        c.call("task/cancel", task=task)
        c.wait_for(lambda: len(c.ends) == 2, what="the ends of both subscriptions")
        self.assertEqual([{"subscription": n, "task": task, "reason": "removed"} for n in (first, second)],
                         sorted(c.ends, key=lambda end: end["subscription"]))
        code = watching.wait(60)  # its input stays open: at its end it would leave by itself
        err = watching.communicate()[1]
        self.assertEqual(1, code, err)
        self.assertRegex(err, f"the task {task} was removed: it had ended")
        self.assertIn("keep_ms", err)
        with self.assertRaises(RpcError) as unknown:
            c.call("events/unsubscribe", subscription=first)
        self.assertEqual("subscription_unknown", unknown.exception.name)
        c.call("events/unsubscribe", subscription=all_tasks)

    def test_what_cannot_be_read_is_told_with_its_reason(self):
        """To who asks, to who follows, and by the doctor; the rest is served on."""
        self.daemon([{"say": "one"}, {"say": "two"}], by_turn=True, limits=NOW)
        self.allowed_errors = (r"a block of an archived task is damaged",)
        c = self.d.client()
        task, other = c.create(self.d.workspace, name="hurt"), c.create(self.d.workspace, name="whole", keep_open=True)
        c.wait_state(task, "completed")
        c.wait_state(other, "waiting")
        self.archived(1)
        self.d.stop()
        with sqlite3.connect(self.d.state_dir / "agentd.db") as db:
            self.assertLess(0, db.execute("UPDATE archive_events SET body = zeroblob(length(body))").rowcount)
        db.close()
        self.d.start()
        c = self.d.client()
        with self.assertRaises(RpcError) as unreadable:
            c.call("task/events", task=task)
        self.assertEqual("state_unreadable", unreadable.exception.name)
        self.assertRegex(str(unreadable.exception), "the state could not be read: a block of an archived task is damaged")
        subscription = c.subscribe(task=task, after_seq=0)
        c.wait_for(lambda: c.ends, what="the end of the subscription")
        self.assertEqual((subscription, task, "unreadable"), tuple(c.ends[0][k] for k in ("subscription", "task", "reason")))
        self.assertIn("is damaged", c.ends[0]["detail"])
        for command in (("log", "hurt"), ("log", "--follow", "hurt"), ("attach", "hurt")):
            done = self.d.ctl(*command, check=1)
            self.assertRegex(done.stderr, "the state could not be read: a block of an archived task is damaged")
            self.assertIn("agentctl doctor", done.stderr)
        done = self.d.ctl("doctor", check=1)
        self.assertRegex(done.stdout, r"FAIL journal: a read failed at \d.*: a block of an archived task is damaged.*backup in its place")
        self.assertEqual(0, self.d.ctl("log", "whole").returncode)

    def test_folders_of_runs_go_with_the_runs(self):
        """Of a task that lives: those that its state holds no more. At a start: those of no task."""
        steps = [{"calls": [sh(f"echo {i}") for i in range(8)]} for _ in range(8)] + [{"calls": [sh("cat")]}, {"say": "done"}]
        self.daemon(steps, by_turn=True)
        c = self.d.client()
        task = c.create(self.d.workspace, keep_open=True)
        c.wait_event(task, "run.started", n=65)
        folder = self.d.state_dir / "runs" / task
        poll(lambda: len(os.listdir(folder)) <= 45, what="folders of forgotten runs deleted")
        self.d.stop()
        lost = self.d.state_dir / "runs" / ("t" + "0" * 26) / "r1"
        lost.mkdir(parents=True)
        (lost / "out").write_text("x")
        (self.d.state_dir / "runs" / "notes").write_text("mine")
        self.d.start()
        poll(lambda: not lost.parent.exists(), what="the folder of no task deleted")
        self.assertTrue((self.d.state_dir / "runs" / "notes").exists())
        self.assertTrue(folder.exists())
        self.d.cancel_all()

    def test_clients_that_never_read_do_not_hold_the_log(self):
        """A client that does not read costs a place in the journal, and the log of the database starts again in time."""
        n, clients = 6, 50
        large = sh("python3 -c \"import random; print(random.randbytes(60000).hex())\"", limit=130000)
        self.daemon([{"say": "on", "calls": [large] * 8} for _ in range(8)] + [{"say": "done"}], by_turn=True)
        silent = []
        for _ in range(clients):
            s = socket.socket(socket.AF_UNIX)
            folder = os.open(self.d.socket.parent, os.O_PATH)
            s.connect(f"/proc/self/fd/{folder}/{self.d.socket.name}")
            os.close(folder)
            for i, (method, params) in enumerate((("initialize", {"protocol": 1, "client": {"name": "silent", "version": "1"}}),
                                                  ("events/subscribe", {"after_pos": 0, "deltas": True}))):
                s.sendall(json.dumps({"jsonrpc": "2.0", "id": i, "method": method, "params": params}).encode() + b"\n")
            self.addCleanup(s.close)
            silent.append(s)
        c = self.d.client()
        tasks = [c.create(self.d.workspace) for _ in range(n)]
        most, wal = 0, self.d.state_dir / "agentd.db-wal"

        def ended():
            nonlocal most
            most = max(most, wal.stat().st_size if wal.exists() else 0)
            return all(c.call("task/get", task=t)["task"]["state"] == "completed" for t in tasks)
        poll(ended, timeout_s=300, what="all tasks completed")
        self.assertGreater((self.d.state_dir / "agentd.db").stat().st_size + most, 40 << 20, "enough was written to tell")
        self.assertLess(most, 64 << 20)


class Cap(Case):
    def test_the_cap_holds(self):
        """Oldest first, whatever their age; then only live ones are left, and new tasks are refused."""
        large = sh("python3 -c \"import random; print(random.randbytes(60000).hex())\"", limit=130000)
        steps = [{"say": "on", "calls": [large] * 12} for _ in range(2)]
        self.daemon(steps + [{"say": "done"}], by_turn=True, limits={"storage_bytes_max": 16 << 20})
        c = self.d.client()
        tasks = []

        def storage():
            return c.call("daemon/status")["daemon"]
        while storage()["storage"]["removed"] < 2 and len(tasks) < 20:
            tasks.append(c.create(self.d.workspace, name=f"t{len(tasks)}"))
            c.wait_state(tasks[-1], "completed")
        poll(lambda: storage()["storage"]["removed"] >= 2, what="the removal of the oldest")
        left = [t["id"] for t in c.call("task/list", all=True)["tasks"]]
        self.assertNotIn(tasks[0], left)
        self.assertEqual(tasks[-len(left):], left[::-1])
        poll(lambda: storage()["storage"]["bytes"] <= 16 << 20, what="the bound")
        self.assertEqual("open", storage()["admission"])

    def test_what_lives_is_never_removed_and_shuts_the_door(self):
        """When the cap is reached by tasks that live, new ones are refused, with a reason; one that ends makes room for them."""
        large = sh("python3 -c \"import random; print(random.randbytes(60000).hex())\"", limit=130000)
        self.daemon([{"say": "on", "calls": [large] * 8} for _ in range(4)] + [{"say": "done"}], by_turn=True,
                    limits={**NOW, "storage_bytes_max": 16777216})
        self.allowed_errors = (r"storage_bytes_max allows",)
        c = self.d.client()
        live = [c.create(self.d.workspace, keep_open=True, name=f"live{i}") for i in range(3)]
        for task in live:
            c.wait_state(task, "waiting")
        before = c.journal(live[1])
        poll(lambda: c.call("daemon/status")["daemon"]["admission"] == "storage_full", what="admission that is shut")
        with self.assertRaises(RpcError) as refused:
            c.create(self.d.workspace, name="new")
        self.assertEqual("limit_reached", refused.exception.name)
        self.assertRegex(str(refused.exception), r"limits\.storage_bytes_max allows 16777216, .* cancel some, or raise the limit")
        done = self.d.ctl("run", "--detach", "another")
        self.assertNotEqual(0, done.returncode)
        self.assertIn("storage_bytes_max", done.stderr)
        self.assertEqual(0, c.call("daemon/status")["daemon"]["storage"]["removed"])
        c.call("task/cancel", task=live[0])
        c.call("task/cancel", task=live[2])
        poll(lambda: c.call("daemon/status")["daemon"]["admission"] == "open", what="admission that is open again")
        c.wait_state(c.create(self.d.workspace, name="new", keep_open=True), "waiting")
        self.assertEqual(before, c.journal(live[1]), "what lives stays whole")


if __name__ == "__main__":
    unittest.main()
