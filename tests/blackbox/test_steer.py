"""Steering: acknowledged means durable; then delivered, then seen; exactly once each."""
import threading
import time
import unittest

from lib import Case, poll, sh

WAIT = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo over"


class Steer(Case):
    def receipts(self, c, task, steer):
        return [e["kind"].split(".")[1] for e in c.of(task) if e["kind"].startswith("steer.") and e["steer"] == steer]

    def texts_with(self, text):
        """In which requests, and how often in each, a text of the user is."""
        return [sum(text in t for t in r.texts()) for r in self.m.requests]

    def test_next_goes_into_the_next_request_once(self):
        gate = threading.Event()
        self.daemon([{"say": "a", "calls": [sh("true")], "gate": gate}, {"say": "b", "calls": [sh("true")]}, {"say": "c"}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        self.m.wait_requests(1)
        reply = c.call("task/steer", task=task, text="use the iterator")
        self.assertEqual(1, c.call("task/get", task=task)["task"]["pending"]["steers"])
        gate.set()
        c.wait_state(task, "completed")
        self.assertEqual([0, 1, 1], self.texts_with("use the iterator"))
        self.assertEqual(["accepted", "delivered", "seen"], self.receipts(c, task, reply["steer"]))
        self.assertEqual(reply["seq"], c.wait_event(task, "steer.accepted")["seq"])
        self.assertEqual(2, c.wait_event(task, "steer.delivered")["step"])
        self.assertEqual(2, c.wait_event(task, "steer.seen")["step"])
        self.assertEqual(0, c.call("task/get", task=task)["task"]["pending"]["steers"])
        self.assertEqual("blackbox", c.wait_event(task, "steer.accepted")["by"]["client"])

    def test_next_answers_a_waiting_call_within_a_second_and_keeps_its_process(self):
        self.daemon([{"calls": [sh(WAIT, yield_ms=600000)]}, {"say": "I heard."}], )
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_for(lambda: [d for d in c.deltas if d["kind"] == "run.output"], what="the tool at work")
        began = time.monotonic()
        c.call("task/steer", task=task, text="hurry")
        second = self.m.wait_requests(2)
        self.assertLess(second.at - began, 1.0)
        self.assertIn("begun", second.outputs()[0])
        self.assertEqual([0, 1], self.texts_with("hurry"))
        c.wait_state(task, "completed")
        self.assertEqual([], c.of(task, "run.ended"))
        (self.d.workspace / "go").touch()
        ended = c.wait_event(task, "run.ended")
        self.assertEqual(("done", 0), (ended["outcome"], ended["exit_code"]))

    def test_now_cuts_the_stream_and_keeps_what_was_said(self):
        mid = threading.Event()
        self.daemon([{"say": "I will rewrite everything in " * 8, "mid": mid, "calls": [sh("touch ran")]}, {"say": "Fine."}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_for(lambda: len([d for d in c.deltas if d["kind"] == "message.delta"]) >= 1, what="the stream")
        c.call("task/steer", task=task, text="stop that", delivery="now")
        self.assertTrue(self.m.requests[0].closed.wait(10))
        c.wait_state(task, "completed")
        partial = c.of(task, "message", partial=True)
        self.assertEqual(1, len(partial))
        self.assertTrue(("I will rewrite everything in " * 8).startswith(partial[0]["text"]))
        self.assertGreater(len(partial[0]["text"]), 10)
        self.assertIn(partial[0]["text"], "".join(self.m.requests[1].texts("assistant")))
        self.assertEqual([0, 1], self.texts_with("stop that"))
        self.assertFalse((self.d.workspace / "ran").exists())
        mid.set()

    def test_now_answers_a_waiting_call(self):
        self.daemon([{"calls": [sh(WAIT, yield_ms=600000)]}, {"say": "ok"}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_event(task, "run.started")
        c.call("task/steer", task=task, text="now!", delivery="now")
        self.m.wait_requests(2)
        c.wait_state(task, "completed")
        (self.d.workspace / "go").touch()
        c.wait_event(task, "run.ended")

    def test_queue_waits_for_the_end_of_the_turn(self):
        gate = threading.Event()
        self.daemon([{"say": "a", "calls": [sh("true")], "gate": gate}, {"say": "b"}, {"say": "c"}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        self.m.wait_requests(1)
        c.call("task/steer", task=task, text="and then this", delivery="queue")
        gate.set()
        c.wait_event(task, "turn.ended", n=2)
        c.wait_state(task, "completed")
        self.assertEqual([0, 0, 1], self.texts_with("and then this"))

    def test_several_keep_their_order(self):
        gate = threading.Event()
        self.daemon([{"say": "a", "gate": gate}, {"say": "b"}])
        c, other = self.d.client(), None
        task = c.create(self.d.workspace)
        self.m.wait_requests(1)
        other = self.d.client(name="other")
        for i in range(6):
            (c, other)[i % 2].call("task/steer", task=task, text=f"steer-{i}!")
        gate.set()
        c.wait_state(task, "completed")
        texts = "\n".join(self.m.requests[1].texts())
        self.assertEqual(sorted(range(6), key=lambda i: texts.index(f"steer-{i}!")), list(range(6)))

    def test_it_extends_the_next_attempt_during_a_back_off(self):
        self.daemon([{"status": 500}, {"say": "x"}], limits={"retry_ms_min": 3000, "retry_ms_max": 3000})
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_event(task, "step.retry")
        c.call("task/steer", task=task, text="by the way")
        c.wait_state(task, "completed")
        self.assertEqual([0, 1], self.texts_with("by the way"))
        delivered = c.wait_event(task, "steer.delivered")
        self.assertEqual(1, delivered["step"])
        self.assertEqual(["accepted", "delivered", "seen"], self.receipts(c, task, delivered["steer"]))

    def test_an_acknowledged_one_survives_kill_9(self):
        for delivery in ("next", "now", "queue"):
            with self.subTest(delivery=delivery):
                gate = threading.Event()
                self.daemon([{"say": "a", "gate": gate}] + [{"say": "b"}] * 3)
                c = self.d.client()
                task = c.create(self.d.workspace)
                self.m.wait_requests(1)
                c.call("task/steer", task=task, text="do not forget", delivery=delivery)
                self.d.kill()
                self.d.start()
                c = self.d.client()
                c.subscribe(task=task, after_seq=0)
                gate.set()
                c.wait_event(task, "steer.seen")
                c.wait_state(task, "completed")
                self.assertEqual(1, self.texts_with("do not forget")[-1])
                self.assertEqual(["accepted", "delivered", "seen"], self.receipts(c, task, c.wait_event(task, "steer.accepted")["steer"]))

    def test_a_final_task_is_opened_again(self):
        c, task = self.run_task([{"say": "one"}, {"say": "two"}, {"say": "three"}])
        for n, kind in ((2, "next"), (3, "queue")):
            c.call("task/steer", task=task, text=f"turn {n}", delivery=kind)
            c.wait_event(task, "turn.ended", n=n)
            c.wait_state(task, "completed")
        self.assertEqual(3, len(self.m.requests))
        self.assertEqual(3, c.call("task/get", task=task)["task"]["turns"])

    def test_a_cancelled_task_is_opened_again(self):
        gate = threading.Event()
        self.daemon([{"say": "one", "gate": gate}, {"say": "two"}])
        c = self.d.client()
        task = c.create(self.d.workspace, prompt="first words")
        self.m.wait_requests(1)
        c.call("task/cancel", task=task)
        c.wait_state(task, "cancelled")
        c.call("task/steer", task=task, text="changed my mind")
        c.wait_state(task, "completed")
        self.assertEqual(([0, 1], [1, 1]), (self.texts_with("changed my mind"), self.texts_with("first words")))


if __name__ == "__main__":
    unittest.main()
