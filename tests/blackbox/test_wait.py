"""The tool `wait`: for hours at no request, through every death of the daemon, and once."""
import json
import unittest

from lib import Case, sh
from lib.model import wait

DAY = 86400


class Wait(Case):
    def begin(self, *calls, before=()):
        steps = [{"say": "first", "calls": list(before)}] if before else []
        self.daemon([*steps, {"say": "I wait.", "calls": list(calls)}, {"say": "Done."}])
        self.asked = len(steps) + 1
        c = self.d.client()
        self.task = c.create(self.d.workspace)
        self.c = c
        return c

    def wait_begun(self):
        self.c.wait_event(self.task, "wait.started")
        self.c.wait_state(self.task, "waiting")

    def again(self):
        self.d.start()
        self.c = self.d.client()
        self.c.subscribe(task=self.task, after_seq=0)

    def check(self, fired, answer):
        """It ended once, the model was told once, and was not asked in between."""
        self.c.wait_state(self.task, "completed")
        self.assertEqual([("w1", fired)], [(e["wait"], e["fired"]) for e in self.c.of(self.task, "wait.ended")])
        self.assertEqual(1, len(self.c.of(self.task, "wait.started")))
        self.assertEqual(self.asked + 1, len(self.m.requests))
        self.assertEqual(answer, self.m.requests[-1].outputs()[-1])

    def waiting(self):
        return self.c.call("task/get", task=self.task)["task"]["waiting"]

    def test_a_duration(self):
        self.begin(wait(seconds=0.3))
        self.check("time 0.3 s", "The wait is over: 0.3 s have passed.")

    def test_a_moment_of_the_clock(self):
        self.begin(wait(until="2020-01-01T00:00:00Z"))
        self.c.wait_state(self.task, "completed")
        self.assertEqual("clock 2020-01-01T00:00:00.000Z", self.c.of(self.task, "wait.ended")[0]["fired"])

    def test_it_lives_through_deaths_and_is_ended_by_a_steer(self):
        self.begin(wait(seconds=DAY))
        self.wait_begun()
        self.assertEqual(("timer", "86400.0 s"), (self.waiting()["for"], self.waiting()["detail"]))
        until = self.waiting()["until"]
        for end in (self.d.kill, self.d.stop):
            end()
            self.again()
            self.assertEqual(until, self.waiting()["until"])
        self.assertEqual(1, len(self.m.requests))
        self.c.call("task/steer", task=self.task, text="go on now")
        self.check("input", "The wait was ended early: there is new input.")
        self.assertTrue(any("go on now" in t for t in self.m.requests[-1].texts()))

    def test_a_file_that_appears(self):
        self.begin(wait(path="flag", seconds=DAY))
        self.wait_begun()
        flag = self.d.workspace / "flag"
        flag.touch()
        self.check(f"file {flag}", f"The wait is over: {flag} has changed.")

    def test_a_file_that_changes_while_no_daemon_is_there(self):
        self.begin(wait(path="book"))
        self.wait_begun()
        self.d.kill()
        book = self.d.workspace / "book"
        book.write_text("x")
        self.again()
        self.check(f"file {book}", f"The wait is over: {book} has changed.")

    def test_the_end_of_a_process(self):
        self.begin(wait(session_id=1), before=[sh("while [ ! -e go ]; do sleep 0.02; done; echo over", yield_ms=250)])
        self.wait_begun()
        self.assertEqual("run", self.waiting()["for"])
        self.d.kill()
        self.again()
        (self.d.workspace / "go").touch()
        self.check("run r1", "The wait is over: session 1 has ended.")
        self.assertTrue(any("Session 1" in t and "exited with code 0" in t for t in self.m.requests[-1].texts()))

    def test_cancel_and_resume(self):
        self.begin(wait(seconds=DAY))
        self.wait_begun()
        self.d.ctl("resume", self.task, check=0)
        self.check("resumed", "The user ended the wait early: go on.")
        self.begin(wait(seconds=DAY))
        self.wait_begun()
        self.d.ctl("cancel", self.task, check=0)
        self.c.wait_state(self.task, "cancelled")
        self.assertEqual(["cancelled"], [e["fired"] for e in self.c.of(self.task, "wait.ended")])

    def test_status_says_for_what(self):
        self.begin(wait(path="/nowhere/at/all", seconds=DAY))
        self.wait_begun()
        task = json.loads(self.d.ctl("status", "--json", check=0).stdout)["tasks"][0]
        self.assertEqual(("waiting", "file"), (task["state"], task["waiting"]["for"]))
        self.assertEqual("a change of /nowhere/at/all or 86400.0 s", task["waiting"]["detail"])


if __name__ == "__main__":
    unittest.main()
