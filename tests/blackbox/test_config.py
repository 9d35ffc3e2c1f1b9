"""The configuration: strict, with file and line in every error; keys by name only."""
import json
import os
import subprocess
import unittest

from lib import AGENTD, KEY, Case, RpcError, schema

GOOD = """model: main
models:
  main: {provider: local, name: m}
providers:
  local: {wire: openai-responses, base_url: "http://127.0.0.1:9/v1"}
"""

# What is wrong, the line that must be named, a word that must be said. Values are not repeated: one might be a key.
WRONG = [
    ("an unknown key", GOOD + "polcy: open\n", 6, "polcy"),
    ("an unknown key of a model", GOOD.replace("name: m}", "name: m, contxt_window: 5}"), 3, "contxt_window"),
    ("an unknown limit", GOOD + "limits:\n  frame_bytes_max: 65536\n  no_such_limit: 5\n", 8, "no_such_limit"),
    ("a limit that is too small", GOOD + "limits: {frame_bytes_max: 5}\n", 6, "65536"),
    ("a limit that is no number", GOOD + "limits:\n  depth_max: deep\n", 7, "depth_max.*512"),
    ("a number with a tail", GOOD + "limits:\n  depth_max: 64x\n", 7, "512"),
    ("a key twice", GOOD + "model: main\n", 6, "second|twice"),
    ("a model twice", GOOD.replace("providers:", "  main: {provider: local, name: n}\nproviders:"), 4, "second|twice"),
    ("an unknown wire", GOOD.replace("openai-responses", "openai-telepathy"), 5, "openai-chat"),
    ("a provider that is not there", GOOD.replace("provider: local", "provider: remote"), 3, "provider"),
    ("a default that is not there", GOOD.replace("model: main", "model: other"), 1, "model"),
    ("a base_url that is none", GOOD.replace("http://127.0.0.1:9/v1", "ftp:nowhere"), 5, "http"),
    ("a key that is written out", GOOD.replace('9/v1"}', f'9/v1", key: "{KEY}"}}'), 5, "env:"),
    ("a list where a map belongs", GOOD.replace("models:\n  main: {provider: local, name: m}", "models:\n  - main"), 2, "models"),
    ("a map where a text belongs", GOOD.replace("name: m}", "name: {a: b}}"), 3, "text"),
    ("no provider", GOOD.replace("provider: local, ", ""), 3, "provider"),
    ("broken YAML", GOOD + "limits: {a: [}\n", 6, "."),
    ("a tab", GOOD + "limits:\n\tdepth_max: 64\n", 7, "."),
    ("an unknown policy", GOOD + "policy: guard\n", 6, "open"),
    ("a negative price", GOOD.replace("name: m}", "name: m, price: {input: -1}}"), 3, "price|input"),
    ("an alias bomb", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n", 1, "."),
    ("two documents", GOOD + "---\nmodel: main\n", 6, "."),
]


class Config(Case):
    def check(self, place, text):
        place.config.write_text(text)
        return place.ctl("config", "check")

    def test_every_mistake_is_named_with_file_and_line(self):
        place = self.place()
        for what, text, line, word in WRONG:
            with self.subTest(what):
                done = self.check(place, text)
                self.assertEqual(1, done.returncode, done.stdout + done.stderr)
                self.assertRegex(done.stderr, rf"{place.config}:{line}\b")
                self.assertRegex(done.stderr, word)
                self.assertNotIn(KEY, done.stdout + done.stderr)

    def test_the_daemon_refuses_it_too(self):
        place = self.place()
        place.config.write_text(WRONG[0][1])
        done = subprocess.run([str(AGENTD), "--foreground"], env=place.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertNotEqual(0, done.returncode)
        self.assertRegex(done.stderr, rf"{place.config}:6\b")

    def test_a_good_one(self):
        place = self.place()
        every = {name: least for name, least in self.limits()}
        text = GOOD + "policy: open\nlimits:\n" + "".join(f"  {n}: {v}\n" for n, v in every.items())
        self.assertEqual(0, self.check(place, text).returncode)
        self.assertEqual(0, self.check(place, "").returncode, "an empty file says nothing wrong")
        self.assertEqual(0, self.check(place, "# only a remark\n").returncode)

    def limits(self):
        """Name and least of every limit, from the one header that holds them."""
        import re
        text = (schema.ROOT / "daemon/base/limits.h").read_text()
        found = re.findall(r"X\((\w+), \d+, (\d+), \d+,", text)
        self.assertGreater(len(found), 20)
        return found

    def test_a_file_that_was_named_must_exist(self):
        place = self.place()
        done = place.ctl("config", "check", "--config", str(place.dir / "missing.yaml"))
        self.assertEqual(1, done.returncode)
        self.assertIn("missing.yaml", done.stderr)

    def test_no_file_at_all_says_what_to_set(self):
        d = self.daemon(start=False)
        d.config.unlink()
        del d.env["AGENTD_CONFIG"]
        self.addCleanup(lambda: d.ctl("daemon", "stop"))
        done = d.ctl("run", "work", check=1)
        self.assertIn("OPENAI_API_KEY", done.stderr)
        self.assertIn("rehearsal", done.stderr)
        d.ctl("status", check=0)
        d.ctl("doctor")
        d.ctl("daemon", "stop", check=0)

    def test_a_key_in_the_environment_is_enough(self):
        d = self.daemon(start=False)
        model = self.model([{"say": "hello"}])
        d.config.unlink()
        del d.env["AGENTD_CONFIG"]
        d.env.update(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=model.base_url)
        self.addCleanup(lambda: d.ctl("daemon", "stop"))
        done = d.ctl("run", "work", check=0)
        self.assertIn("hello", done.stdout)
        self.assertEqual(f"Bearer {KEY}", model.requests[0].headers["authorization"])
        d.ctl("daemon", "stop", check=0)


class KeyFiles(Case):
    def test_a_key_from_a_file(self):
        d = self.daemon([{"say": "x"}], start=False)
        path = d.dir / "key"
        path.write_text(KEY + "\n")
        path.chmod(0o600)
        d.write_config(self.m.base_url, key=f"file:{path}")
        d.start()
        c = d.client()
        c.wait_state(c.create(d.workspace), "completed")
        self.assertEqual(f"Bearer {KEY}", self.m.requests[0].headers["authorization"])

    def test_a_key_that_does_not_resolve(self):
        d = self.daemon([{"say": "x"}], start=False)
        for key, word in (("env:NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE"), (f"file:{d.dir}/no-such-key", "no-such-key")):
            with self.subTest(key=key):
                d.write_config(self.m.base_url, key=key)
                d.start()
                c = d.client()
                with self.assertRaises(RpcError) as caught:
                    c.call("task/create", prompt="x", workspace=str(d.workspace))
                self.assertEqual("credentials_missing", caught.exception.name)
                self.assertIn(word, caught.exception.message)
                model = c.call("models/list")["models"][0]
                self.assertFalse(model["ready"])
                self.assertIn(word, model["detail"])
                d.stop()

    def test_a_key_that_is_gone_after_a_restart_waits_for_it(self):
        """The task is not failed: it goes on when the key is there again."""
        import threading
        gate = threading.Event()
        d = self.daemon([{"say": "never", "gate": gate}, {"say": "with a key"}], start=False)
        path = d.dir / "key"
        path.write_text(KEY)
        d.write_config(self.m.base_url, key=f"file:{path}")
        d.start()
        task = d.client().create(d.workspace)
        self.m.wait_requests(1)
        d.kill()
        path.unlink()
        d.start()
        c = d.client()
        c.subscribe(task=task, after_seq=0)
        c.wait_state(task, "waiting")
        self.assertEqual("credentials", c.of(task, "task.state")[-1]["waiting"]["for"])
        path.write_text(KEY)
        c.call("task/resume", task=task)
        c.wait_state(task, "completed")
        gate.set()

    def test_no_key_at_all_sends_none(self):
        d = self.daemon([{"say": "x"}], start=False)
        text = d.config.read_text()
        d.config.write_text(text.replace(', key: "env:AGENTD_TEST_KEY"', ""))
        d.start()
        c = d.client()
        c.wait_state(c.create(d.workspace), "completed")
        self.assertNotIn("authorization", self.m.requests[0].headers)

    def test_keys_stay_out_of_everything(self):
        """Whatever a task does, the key is in no file, reply, event or log. (Every teardown looks through the state folder.)"""
        self.daemon([{"status": 500, "body": json.dumps({"error": {"message": KEY}})}, {"say": "x"}])
        c = self.d.client()
        task = c.create(self.d.workspace, env=dict(os.environ, OPENAI_API_KEY=KEY, AGENTD_TEST_KEY=KEY))
        c.wait_state(task, "completed")
        self.assertNotIn(KEY, json.dumps(c.events) + json.dumps(c.call("models/list")) + json.dumps(c.call("daemon/doctor")))


if __name__ == "__main__":
    unittest.main()
