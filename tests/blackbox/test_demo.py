"""The quick start's demonstration over both wires (test_quickstart.py has the script itself), and the daemon against
agentd-rehearsal with its faults."""
import shutil
import subprocess
import unittest

from lib import REHEARSAL, ROOT, Case, Rehearsal

DEMO = ROOT / "packaging" / "demo"


class DemoRehearsal(Rehearsal):
    """The shipped script as it is."""

    def __init__(self, place, path):
        self.process = subprocess.Popen([str(REHEARSAL), "--script", str(path), "--listen", "127.0.0.1:0"], env=place.env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.base_url = self.process.stdout.readline().split()[-1] + "/v1"


class Demo(Case):
    def project(self, wire="openai-responses"):
        d = self.daemon(start=False)
        server = DemoRehearsal(d, next(DEMO.glob("*.yaml")))
        self.addCleanup(server.close)
        d.write_config(server.base_url, wire)
        shutil.copytree(DEMO / "project", d.workspace, dirs_exist_ok=True)
        return d.start()

    def make_test(self, d):
        return subprocess.run(["make", "test"], cwd=d.workspace, env=d.env, capture_output=True, text=True)

    def test_it_fails_then_is_fixed_then_passes(self):
        for wire in ("openai-responses", "openai-chat"):
            with self.subTest(wire=wire):
                d = self.project(wire)
                before = self.make_test(d)
                self.assertNotEqual(0, before.returncode)
                sources = {p.name: p.read_text() for p in d.workspace.glob("*.[ch]")}
                done = d.ctl("run", "Make the tests pass.", check=0)
                self.assertIn("Fixed", done.stdout)
                self.assertEqual(0, self.make_test(d).returncode)
                changed = [name for name, text in sources.items() if (d.workspace / name).read_text() != text]
                self.assertEqual(["duration.c"], changed)
                c = d.client()
                journal = c.journal("@last")
                codes = [e["exit_code"] for e in journal if e["kind"] == "run.ended"]
                self.assertEqual(1, len([code for code in codes if code]), "the tests failed once, for real")
                self.assertEqual(["modified"], [e["change"] for e in journal if e["kind"] == "file.changed"])

    def test_broken_differently_the_task_fails(self):
        d = self.project()
        source = d.workspace / "duration.c"
        text = source.read_text()
        source.write_text(text.replace("seconds += value * unit;", "seconds += value * unit + 1;"))
        self.assertNotEqual(text, source.read_text())
        done = d.ctl("run", "Make the tests pass.", check=1)
        self.assertNotIn("Fixed: all", done.stdout)
        self.assertNotEqual(0, self.make_test(d).returncode)

    def test_nothing_broken_fails_too(self):
        """The script expects the failure: a project that is whole is not what it is about."""
        d = self.project()
        source = d.workspace / "duration.c"
        source.write_text(source.read_text().replace("        digits = 0;", "        value = 0;\n        digits = 0;"))
        self.assertEqual(0, self.make_test(d).returncode)
        d.ctl("run", "Make the tests pass.", check=1)


class ThroughRehearsal(Case):
    """The daemon against agentd-rehearsal, faults and all."""

    def test_faults_are_waited_out_over_both_wires(self):
        script = {"steps": [{"fault": {"status": 429, "retry_after_s": 1}}, {"say": "one", "call": {"tool": "exec_command",
                            "arguments": {"cmd": "echo step-{k}"}}},
                            {"expect": {"last_output_matches": "step-0"}, "say": "two", "calls": [
                                {"tool": "exec_command", "arguments": {"cmd": "echo a"}}, {"tool": "exec_command", "arguments": {"cmd": "echo b"}}]},
                            {"fault": {"status": 500, "times": 2}}, {"fault": {"cut_after_bytes": 300}}, {"fault": {"malformed": True}},
                            {"say": "three {k}"}], "usage": {"input_tokens": 1200, "cached_input_tokens": 1000, "output_tokens": 30}}
        for wire in ("openai-responses", "openai-chat"):
            with self.subTest(wire=wire):
                d = self.daemon(start=False)
                d.write_config(self.rehearsal(d, script).base_url, wire)
                d.start()
                c = d.client()
                task = c.create(d.workspace)
                c.wait_state(task, "completed")
                self.assertEqual(["one", "two", "three 2"], [e["text"] for e in c.of(task, "message")])
                self.assertEqual([(1, 1), (3, 1), (3, 2), (3, 3), (3, 4)], [(e["step"], e["attempt"]) for e in c.of(task, "step.retry")])
                self.assertEqual(3600, c.call("task/get", task=task)["task"]["usage"]["input_tokens"])

    def test_a_long_task(self):
        d = self.daemon(start=False)
        script = {"steps": [{"repeat": 100, "call": {"tool": "exec_command", "arguments": {"cmd": "echo {k}"}}}, {"say": "done"}]}
        d.write_config(self.rehearsal(d, script).base_url)
        d.start()
        before = d.memory_kb()
        c = d.client()
        task = c.create(d.workspace)
        c.wait_state(task, "completed", timeout_s=180)
        self.assertEqual((101, 100), tuple(c.call("task/get", task=task)["task"][k] for k in ("steps", "runs")))
        self.assertLess(d.memory_kb() - before, 40 << 10)
        for n, event in enumerate(c.of(task, "tool.result")):
            self.assertIn(f"{n}\n", event["output"])


if __name__ == "__main__":
    unittest.main()
