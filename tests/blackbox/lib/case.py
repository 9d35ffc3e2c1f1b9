"""The base of every black-box test."""
import os
import unittest

from .daemon import AGENTD, Daemon, Place, Rehearsal
from .model import ModelServer

KEEP = bool(os.environ.get("AGENTD_TEST_KEEP"))


class Case(unittest.TestCase):
    allowed_errors = ()  # patterns of ERROR lines that the test provokes
    longMessage = True
    maxDiff = 4000

    def setUp(self):
        self.assertTrue(AGENTD.exists(), f"{AGENTD} is not built")

    def place(self):
        place = Place()
        self.addCleanup(self._finish, place)
        return place

    def _finish(self, place):
        wrong = place.finish(self.allowed_errors, KEEP)
        if KEEP:
            print(f"kept {place.dir}")
        if wrong:
            self.fail("teardown:\n" + "\n".join(wrong))

    def model(self, steps, **more):
        server = ModelServer(steps, **more)
        self.addCleanup(self._close_model, server)
        return server

    def _close_model(self, server):
        server.close()
        self.assertEqual([], server.problems, "the model server's findings")

    def rehearsal(self, place, script):
        rehearsal = Rehearsal(place, script)
        self.addCleanup(rehearsal.close)
        return rehearsal

    def daemon(self, steps=None, wire="openai-responses", limits=None, config=None, start=True, by_turn=False):
        """A daemon (self.d), and a model server with these steps (self.m) that it is configured for."""
        self.d = Daemon()
        d = self.d
        self.m = None
        if steps is not None:
            self.m = ModelServer(steps, by_turn=by_turn)
        d.write_config(self.m.base_url if self.m else None, wire, limits, config)
        # Cleanups run backwards: daemon first, then the model server.
        if self.m:
            self.addCleanup(self._close_model, self.m)
        self.addCleanup(self._finish, d)
        if start:
            d.start()
        return d

    def run_task(self, steps, timeout_s=None, until=("completed",), wire="openai-responses", limits=None, **params):
        """Daemon, client and one task, carried to its end. Returns (client, task id)."""
        self.daemon(steps, wire=wire, limits=limits)
        c = self.d.client()
        task = c.create(self.d.workspace, **params)
        c.wait_state(task, *until, timeout_s=timeout_s)
        return c, task

    def results(self, c, task):
        return [e for e in c.of(task, "tool.result")]
