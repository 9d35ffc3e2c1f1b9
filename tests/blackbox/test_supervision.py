"""agentctl starts the daemon; a supervisor brings it back after a crash, and not after `daemon stop`."""
import json
import os
import pathlib
import signal
import time
import unittest

from lib import AGENTD, Case, alive, daemons_of, poll, processes_of, sh


class Supervised(Case):
    def begin(self, steps):
        self.m = self.model(steps)
        self.p = self.place()
        self.p.write_config(self.m.base_url)
        self.addCleanup(lambda: self.p.ctl("daemon", "stop"))
        return self.p

    def pid(self):
        done = self.p.ctl("daemon", "status", "--json")
        return json.loads(done.stdout)["daemon"]["pid"] if done.returncode == 0 else None

    def test_a_command_starts_it_and_stop_ends_it_for_good(self):
        p = self.begin([{"say": "x"}, {"say": "y"}])
        p.ctl("run", "work", check=0)
        pid = self.pid()
        self.assertTrue(alive(pid))
        p.ctl("daemon", "stop", check=0)
        poll(lambda: not processes_of(p.dir), what="the end of daemon and supervisor")
        for view in (("status",), ("log", "@last"), ("attach", "@last"), ("models",), ("wait", "@last")):
            p.ctl(*view, check=3)
        self.assertEqual({}, processes_of(p.dir))
        p.ctl("daemon", "status", check=3)
        p.ctl("run", "again", check=0)  # work starts it
        self.assertNotEqual(pid, self.pid())
        p.ctl("status", check=0)

    def test_start_stop_restart_status(self):
        p = self.begin([])
        p.ctl("daemon", "start", check=0)
        one = self.pid()
        p.ctl("daemon", "start", check=0)
        self.assertEqual(one, self.pid())
        p.ctl("daemon", "restart", check=0)
        two = self.pid()
        self.assertNotEqual(one, two)
        self.assertFalse(alive(one))
        p.ctl("daemon", "stop", check=0)
        poll(lambda: not processes_of(p.dir))
        p.ctl("daemon", "stop")
        p.ctl("daemon", "start", check=0)
        self.assertTrue(alive(self.pid()))

    def test_a_restart_for_a_bad_configuration_leaves_it_as_it_is(self):
        p = self.begin([])
        p.ctl("daemon", "start", check=0)
        one = self.pid()
        config = pathlib.Path(json.loads(p.ctl("daemon", "status", "--json").stdout)["daemon"]["config"])
        good = config.read_text()
        config.write_text(good + "\nbogus: 1\n")
        done = p.ctl("daemon", "restart", check=1)
        self.assertIn("bogus", done.stderr)
        self.assertIn("goes on as it was", done.stderr)
        self.assertEqual(one, self.pid())
        config.write_text(good)
        p.ctl("daemon", "restart", check=0)
        self.assertNotEqual(one, self.pid())

    def test_a_configuration_of_the_default_place_may_be_removed(self):
        self.m = self.model([])
        p = self.p = self.place()
        self.addCleanup(lambda: p.ctl("daemon", "stop"))
        p.write_config(self.m.base_url)
        default = p.home / ".config" / "agentd" / "config.yaml"
        default.parent.mkdir(parents=True)
        p.config.rename(default)
        del p.env["AGENTD_CONFIG"]
        p.env.update(OPENAI_API_KEY="none", OPENAI_BASE_URL=self.m.base_url)  # what makes one without a file
        p.ctl("daemon", "start", check=0)
        one = self.pid()
        default.unlink()
        p.ctl("daemon", "restart", check=0)
        two = self.pid()
        self.assertNotEqual(one, two)
        # That daemon has read no file: nor does the one of this client matter, which it never sees.
        bad = p.dir / "bad.yaml"
        bad.write_text("bogus: 1\n")
        p.ctl("daemon", "restart", env={**p.env, "AGENTD_CONFIG": str(bad)}, check=0)
        self.assertNotEqual(two, self.pid())

    def test_a_daemon_that_is_not_heard_is_named(self):
        p = self.begin([])
        p.ctl("daemon", "start", check=0)
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            for command in (("status",), ("daemon", "stop")):
                self.assertIn(f"kill -9 {pid}", p.ctl(*command, check=3).stderr)
        finally:
            os.kill(pid, signal.SIGCONT)
        p.ctl("daemon", "stop", check=0)

    def test_who_watches_stays_through_many_restarts(self):
        p = self.begin([{"calls": [sh("while [ ! -e go ]; do sleep 0.05; done", yield_ms=600000)]}, {"say": "finished"}])
        id = p.ctl("run", "--detach", "work", check=0).stdout.strip()
        watching = p.ctl_start("log", "--json", "--follow", id)
        self.addCleanup(watching.kill)
        self.assertEqual(1, json.loads(watching.stdout.readline())["seq"])
        for n in range(12):
            p.ctl("daemon", "restart", check=0)
            poll(lambda: json.loads(p.ctl("daemon", "status", "--json", check=0).stdout)["daemon"]["clients"] == 2, what="its return")
        (p.workspace / "go").write_text("")
        seqs = [json.loads(line)["seq"] for line in watching.stdout]
        err = watching.stderr.read()
        self.assertEqual(0, watching.wait(120), err)
        self.assertEqual(list(range(2, seqs[-1] + 1)), seqs)

    def test_killed_it_is_back_by_itself(self):
        p = self.begin([])
        p.ctl("daemon", "start", check=0)
        pid = self.pid()
        for _ in range(3):
            os.kill(pid, signal.SIGKILL)
            # Looked for without asking agentctl, which might start one itself.
            new = poll(lambda: [d for d in daemons_of(p.state_dir) if d != pid], what="another daemon")
            self.assertEqual(1, len(new))
            self.assertEqual(new[0], poll(self.pid))
            pid = new[0]

    def test_killed_in_the_middle_of_a_tool_the_task_finishes_by_itself(self):
        p = self.begin([{"calls": [sh("echo effect >> effects; sync effects; while [ ! -e go ]; do sleep 0.02; done; echo whole", yield_ms=600000)]},
                        {"say": "finished"}])
        id = p.ctl("run", "--detach", "work", check=0).stdout.strip()
        poll(lambda: (p.workspace / "effects").exists(), what="the tool at work")
        os.kill(self.pid(), signal.SIGKILL)
        (p.workspace / "go").touch()
        # Nobody asks for anything but the daemon itself: the task goes on without a client.
        self.m.wait_requests(2)
        p.ctl("wait", id, check=0)
        self.assertEqual("effect\n", (p.workspace / "effects").read_text())
        self.assertIn("whole", self.m.requests[1].outputs()[0])
        self.assertEqual(2, len(self.m.requests))

    def test_after_a_crash_of_everything_views_start_it_too(self):
        p = self.begin([{"say": "x"}])
        p.ctl("run", "work", check=0)
        while left := processes_of(p.dir):  # daemon and supervisor
            for process in sorted(left):
                try:
                    os.kill(process, signal.SIGKILL)
                except OSError:
                    pass
        got = json.loads(p.ctl("status", "--json", check=0).stdout)
        self.assertEqual(1, len(got["tasks"]))

    def sick(self):
        """A daemon that crashes at every start while the file `sick` is there, and is in a back-off of its supervisor."""
        p = self.begin([])
        wrapper, self.sick_file = p.dir / "agentd", p.dir / "sick"
        wrapper.write_text(f'#!/bin/sh\n[ -e {self.sick_file} ] && kill -9 $$\nexec {AGENTD} "$@"\n')
        wrapper.chmod(0o700)
        p.env["AGENTD_BIN"] = str(wrapper)
        p.ctl("daemon", "start", check=0)
        self.sick_file.touch()
        os.kill(self.pid(), signal.SIGKILL)
        poll(lambda: "again in 800 ms" in p.log_text(), what="a back-off")
        return p

    def test_a_stop_holds_during_a_back_off(self):
        p = self.sick()
        p.ctl("daemon", "stop", check=0)
        self.sick_file.unlink()
        poll(lambda: not processes_of(p.dir), timeout_s=15, what="the end of the supervisor")
        p.ctl("status", check=3)

    def test_one_supervisor_is_left(self):
        p = self.sick()
        poll(lambda: "again in 3200 ms" in p.log_text(), what="a longer back-off")
        old = {pid for pid, command in processes_of(p.dir).items() if "agentd-supervise" in command}
        start = p.ctl_start("daemon", "start")  # a second one, whose daemon crashes as well
        poll(lambda: not old & set(processes_of(p.dir)), timeout_s=15, what="the end of the old supervisor")
        self.sick_file.unlink()
        out, err = start.communicate(timeout=60)
        self.assertEqual(0, start.returncode, out + err)
        pid = poll(self.pid)
        os.kill(pid, signal.SIGKILL)
        poll(lambda: [d for d in daemons_of(p.state_dir) if d != pid], what="another daemon")

    def test_many_at_once_start_one(self):
        self.allowed_errors = (r"owns the state folder",)  # what those who lose say
        p = self.begin([])
        starts = [p.ctl_start("daemon", "start") for _ in range(6)]
        for s in starts:
            out, err = s.communicate(timeout=60)
            self.assertEqual(0, s.returncode, out + err)
        self.assertEqual(1, len(daemons_of(p.state_dir)))

    def test_a_start_that_fails_says_why(self):
        self.allowed_errors = (r"config\.yaml",)
        p = self.begin([])
        p.config.write_text("models: [\n")
        done = p.ctl("daemon", "start")
        self.assertNotEqual(0, done.returncode)
        self.assertRegex(done.stderr, r"config\.yaml:\d+")
        poll(lambda: not processes_of(p.dir), what="no supervisor that tries for ever")
        p.write_config(self.m.base_url)

    def test_it_holds_no_folder_and_no_terminal(self):
        p = self.begin([])
        p.ctl("daemon", "start", check=0)
        pid = self.pid()
        self.assertEqual("/", os.readlink(f"/proc/{pid}/cwd"))
        self.assertNotEqual(os.getsid(0), os.getsid(pid))
        for fd in (0, 1, 2):
            self.assertNotIn("/dev/pts", os.readlink(f"/proc/{pid}/fd/{fd}"))

    def test_an_idle_daemon_sleeps(self):
        """It wakes up less than once a second: counted over five seconds after a task has ended."""
        p = self.begin([{"say": "x"}])
        p.ctl("run", "work", check=0)
        pid = self.pid()
        before = self.switches(pid)
        time.sleep(5)  # the span that is measured, not a wait for an event
        self.assertLessEqual(self.switches(pid) - before, 5)

    @staticmethod
    def switches(pid):
        total = 0
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status") as status:
                total += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
        return total


if __name__ == "__main__":
    unittest.main()
