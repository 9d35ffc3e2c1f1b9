"""What happens between two commits: requests that follow each other without a pause, and an end in the middle of much work."""
import json
import time
import unittest

from lib import Case, poll, sh


def frame(id, method, **params):
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n"


class Pipelined(Case):
    def test_a_task_that_ends_in_the_turn_in_which_it_began(self):
        """Its memory is needed until its commit is done: the store does not know it before."""
        self.daemon([{"say": "ok"}], by_turn=True)
        c = self.d.client()
        for i in range(60):
            name, base = f"short-{i}", 10000 + i * 10
            c.send_raw(frame(base, "task/create", prompt="x", workspace=str(self.d.workspace), name=name) +
                       frame(base + 1, "task/cancel", task=name))
            c.send_raw(frame(base + 2, "task/steer", task=name, text="go on"))
            c.send_raw(frame(base + 3, "task/cancel", task=name) + frame(base + 4, "task/steer", task=name, text="no, go on"))
            for k in range(5):
                reply = c.reply(base + k)
                self.assertTrue("result" in reply or "seq" in reply or "task" in reply, reply)
            if i % 10 == 0:
                time.sleep(0.01)
        tasks = c.call("task/list", all=True)["tasks"]
        self.assertEqual(60, len(tasks))
        for task in tasks:
            c.subscribe(task=task["id"], after_seq=0)
            c.wait_state(task["id"], "completed")
            seqs = [e["seq"] for e in c.journal(task["id"])]
            self.assertEqual(list(range(1, len(seqs) + 1)), seqs)


class Stop(Case):
    def test_the_end_comes_while_tasks_never_rest(self):
        """A stop waits for what is under way, not for what would follow from it."""
        self.daemon([{"say": "on", "calls": [sh("true")]} for _ in range(3000)])
        c = self.d.client()
        tasks = [c.create(self.d.workspace, name=f"busy-{i}") for i in range(20)]
        for task in tasks:
            c.wait_event(task, "step.ended")
        began = time.monotonic()
        self.d.stop(timeout_s=20)
        self.assertLess(time.monotonic() - began, 20)
        self.d.start()
        c = self.d.client()
        for task in tasks:
            c.subscribe(task=task, after_seq=0)
        for task in tasks:
            c.wait_event(task, "task.created")
        self.d.cancel_all()


if __name__ == "__main__":
    unittest.main()
