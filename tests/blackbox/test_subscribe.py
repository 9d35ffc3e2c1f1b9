"""Watching: every client gets the same history from wherever it begins, and live text from its first byte."""
import json
import threading
import unittest

from lib import Case, RpcError, poll, sh


def strip(event):
    return {k: v for k, v in event.items() if k != "subscription"}


class History(Case):
    def setUp(self):
        super().setUp()
        self.c, self.task = self.run_task([{"say": "first", "calls": [sh("echo one"), sh("echo two")]}, {"say": "last"}])
        self.journal = self.c.journal(self.task)

    def test_live_events_are_the_journal(self):
        self.assertEqual(self.journal, [strip(e) for e in self.c.of(self.task)])
        self.assertEqual(list(range(1, len(self.journal) + 1)), [e["seq"] for e in self.journal])

    def test_from_any_seq_and_any_pos(self):
        for i in range(len(self.journal) + 1):
            c = self.d.client()
            c.subscribe(task=self.task, after_seq=i)
            if i < len(self.journal):
                c.wait_for(lambda: c.events and c.events[-1]["seq"] == self.journal[-1]["seq"], what="the rest")
            c.call("daemon/status")
            self.assertEqual(self.journal[i:], [strip(e) for e in c.events])
            c.close()
        c = self.d.client()
        middle = self.journal[len(self.journal) // 2]
        c.subscribe(after_pos=middle["pos"])
        c.wait_for(lambda: c.events and c.events[-1]["seq"] == self.journal[-1]["seq"], what="the rest")
        self.assertEqual(self.journal[middle["seq"]:], [strip(e) for e in c.events])

    def test_without_a_point_only_what_comes(self):
        c = self.d.client()
        c.subscribe()
        c.subscribe(task=self.task)
        c.call("daemon/status")
        self.assertEqual([], c.events)

    def test_viewing_changes_nothing(self):
        before = self.c.call("task/get", task=self.task)
        c = self.d.client()
        c.subscribe(task=self.task, after_seq=0, deltas=True)
        c.call("task/list", all=True)
        c.call("task/events", task=self.task, before=5)
        c.call("daemon/doctor")
        self.assertEqual(before, c.call("task/get", task=self.task))
        self.assertEqual(2, len(self.m.requests))

    def test_pages_forward_and_backward(self):
        c, n = self.c, len(self.journal)
        for limit in (1, 2, 3, 7, n, n + 5):
            found, after = [], 0
            while after is not None:
                page = c.call("task/events", task=self.task, after=after, limit=limit)
                self.assertLessEqual(len(page["events"]), limit)
                self.assertEqual(n, page["end"])
                found += page["events"]
                after = page["next"]
            self.assertEqual(self.journal, found, f"forward, {limit} a page")
            found, before = [], n + 1
            while before is not None:
                page = c.call("task/events", task=self.task, before=before, limit=limit)
                found = page["events"] + found
                before = page["prev"]
            self.assertEqual(self.journal, found, f"backward, {limit} a page")
        page = c.call("task/events", task=self.task, after=n)
        self.assertEqual(([], None), (page["events"], page["next"]))
        page = c.call("task/events", task=self.task, before=1)
        self.assertEqual(([], 0, None), (page["events"], page["next"], page["prev"]), "what follows an empty page is the beginning")

    def test_pages_are_bounded_in_bytes(self):
        page = self.c.call("task/events", task=self.task, bytes=1024)
        self.assertGreater(len(page["events"]), 0)
        self.assertLess(len(json.dumps(page["events"])), 1024 + 4096)
        self.assertIsNotNone(page["next"])

    def test_unsubscribed_is_silent(self):
        c = self.d.client()
        sub = c.subscribe(task=self.task, after_seq=0)
        c.wait_for(lambda: len(c.events) == len(self.journal))
        c.call("events/unsubscribe", subscription=sub)
        with self.assertRaises(RpcError):
            c.call("events/unsubscribe", subscription=sub)
        self.m.steps.append({"say": "again"})
        self.c.call("task/steer", task=self.task, text="more")
        self.c.wait_event(self.task, "turn.ended", n=2)
        c.call("daemon/status")
        self.assertEqual(len(self.journal), len(c.events))

    def test_two_subscriptions_on_one_connection(self):
        c = self.d.client()
        one, two = c.subscribe(task=self.task, after_seq=0), c.subscribe(after_pos=0)
        self.assertNotEqual(one, two)
        for sub in (one, two):
            c.wait_for(lambda: len([e for e in c.events if e["subscription"] == sub]) == len(self.journal))


class Together(Case):
    def test_many_clients_on_one_task_see_the_same(self):
        gates = [threading.Event() for _ in range(3)]
        self.daemon([{"say": "one", "calls": [sh("echo x")], "gate": gates[0]}, {"say": "two", "calls": [sh("echo y")], "gate": gates[1]},
                     {"say": "three", "gate": gates[2]}])
        first = self.d.client()
        task = first.create(self.d.workspace)
        clients = [first]
        for gate in gates:  # some come from the start, some in the middle
            for _ in range(3):
                c = self.d.client()
                c.subscribe(task=task, after_seq=0, deltas=True)
                clients.append(c)
            gate.set()
            self.m.wait_requests(min(3, gates.index(gate) + 2))
        for c in clients:
            c.wait_state(task, "completed")
        want = first.journal(task)
        for c in clients:
            self.assertEqual(want, [strip(e) for e in c.of(task)])

    def test_many_tasks_in_one_subscription(self):
        self.daemon(lambda r: {"say": "x"} if r.outputs() else {"calls": [sh("true")]})
        c = self.d.client()
        c.subscribe(after_pos=0)
        tasks = [c.call("task/create", prompt=f"task {i}", workspace=str(self.d.workspace))["task"] for i in range(8)]
        for task in tasks:
            c.wait_state(task, "completed")
        for task in tasks:
            self.assertEqual(c.journal(task), [strip(e) for e in c.of(task)])


class Live(Case):
    TEXT = "Gr\u00fc\u00dfe, \u4e16\u754c! \U0001f600 the quick brown fox. " * 6

    def test_text_that_is_still_streaming_from_its_first_byte(self):
        mid = threading.Event()
        self.daemon([{"say": self.TEXT, "mid": mid, "pieces": 20}])
        early = self.d.client()
        task = early.create(self.d.workspace)
        early.wait_for(lambda: len(early.live_text(task, "message.delta")) > 100, what="half of it")
        item = early.deltas[0]["item"]
        late = self.d.client()
        late.subscribe(task=task, after_seq=0, deltas=True)
        late.wait_for(lambda: [d for d in late.deltas if d["kind"] == "message.delta"], what="the text so far")
        self.assertEqual(0, late.deltas[0]["offset"])
        self.assertTrue(self.TEXT.startswith(late.live_text(task, "message.delta", item=item)))
        self.assertGreater(len(late.live_text(task, "message.delta", item=item)), 100)
        mid.set()
        for c in (early, late):
            message = c.wait_event(task, "message")
            self.assertEqual((self.TEXT, item, "final", False), tuple(message[k] for k in ("text", "item", "phase", "partial")))
            self.assertEqual(self.TEXT, c.live_text(task, "message.delta", item=item))
            c.wait_state(task, "completed")

    def test_without_deltas_there_are_none(self):
        self.daemon([{"say": self.TEXT, "calls": [sh("echo x")]}, {"say": "y"}])
        c = self.d.client()
        c.subscribe(after_pos=0)
        task = c.call("task/create", prompt="x", workspace=str(self.d.workspace))["task"]
        c.wait_state(task, "completed")
        self.assertEqual([], c.deltas)

    def test_output_of_a_running_tool_from_its_first_byte(self):
        self.daemon([{"calls": [sh("echo begin; while [ ! -e go ]; do sleep 0.02; done; echo end", yield_ms=60000)]}, {"say": "ok"}])
        early = self.d.client()
        task = early.create(self.d.workspace)
        early.wait_for(lambda: [d for d in early.deltas if d["kind"] == "run.output"], what="live output")
        late = self.d.client()
        late.subscribe(task=task, after_seq=0, deltas=True)
        first = late.wait_for(lambda: [d for d in late.deltas if d["kind"] == "run.output"], what="live output")[0]
        self.assertEqual((0, "begin\n", 6, "r1"), (first["offset"], first["text"], first["bytes"], first["run"]))
        (self.d.workspace / "go").touch()
        for c in (early, late):
            c.wait_state(task, "completed")
        self.assertIn("begin\nend\n", early.of(task, "tool.result")[0]["output"])

    def test_broken_text_of_a_tool_is_repaired_and_counted_raw(self):
        self.daemon([{"calls": [sh(r"printf 'a\377b\000c'; while [ ! -e go ]; do sleep 0.02; done", yield_ms=60000)]}, {"say": "ok"}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_for(lambda: sum(d["bytes"] for d in c.deltas if d["kind"] == "run.output") >= 5, what="five raw bytes")
        pieces = [d for d in c.deltas if d["kind"] == "run.output"]
        self.assertEqual("a\ufffdb\0c", "".join(d["text"] for d in pieces))
        (self.d.workspace / "go").touch()
        c.wait_state(task, "completed")

    def test_reasoning_streams_too(self):
        gate = threading.Event()  # not before somebody watches
        self.daemon([{"reasoning": "I think hard.", "say": "Done.", "gate": gate}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        gate.set()
        c.wait_state(task, "completed")
        self.assertEqual("I think hard.", c.live_text(task, "reasoning.delta"))
        self.assertEqual("I think hard.", c.wait_event(task, "reasoning")["summary"])

    def test_a_retry_voids_deltas(self):
        """The stream is cut half-way: the deltas of the second attempt begin at 0 again."""
        gate = threading.Event()
        self.daemon([{"say": "wrong " * 20, "cut": True, "gate": gate}, {"say": "right " * 20}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        gate.set()
        c.wait_state(task, "completed")
        retry = c.wait_event(task, "step.retry")
        self.assertEqual((1, 1), (retry["step"], retry["attempt"]))
        self.assertTrue(c.live_text(task, "message.delta", attempt=1).startswith("wrong "))
        self.assertEqual("right " * 20, c.live_text(task, "message.delta", attempt=2))
        self.assertEqual(["right " * 20], [e["text"] for e in c.of(task, "message")])
        kinds = [(what, p.get("attempt")) for what, p in c.notifications if p["task"] == task
                 and (what == "delta" or p["kind"] == "step.retry")]
        self.assertLess(kinds.index(("event", 1)), kinds.index(("delta", 2)), "new text before the old was void")

    def test_after_the_retry_a_newcomer_sees_only_the_new(self):
        mid = threading.Event()
        self.daemon([{"say": "wrong " * 20, "cut": True}, {"say": "right " * 20, "mid": mid}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_for(lambda: [d for d in c.deltas if d.get("attempt") == 2])
        late = self.d.client()
        late.subscribe(task=task, after_seq=0, deltas=True)
        late.wait_for(lambda: late.deltas, what="the text so far")
        self.assertTrue(all(d["attempt"] == 2 for d in late.deltas if d["kind"] == "message.delta"))
        mid.set()
        late.wait_state(task, "completed")

    def test_events_never_come_before_they_are_durable(self):
        """Kill at once when an event is seen: it must be there after the restart."""
        for n in range(3):
            with self.subTest(round=n):
                self.daemon([{"say": "a", "calls": [sh("true")]}] * 30 + [{"say": "b"}])
                c = self.d.client()
                task = c.create(self.d.workspace)
                c.wait_event(task, "step.started", n=2 + 3 * n)
                self.d.kill()
                poll(lambda: c.closed)
                seen = [strip(e) for e in c.of(task)]
                self.d.start()
                c = self.d.client()
                self.assertEqual(seen, c.journal(task)[:len(seen)])
                c.call("task/cancel", task=task)


if __name__ == "__main__":
    unittest.main()
