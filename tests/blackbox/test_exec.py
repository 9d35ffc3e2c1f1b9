"""exec_command and write_stdin: real processes, with everything that real processes do."""
import json
import os
import re
import threading
import time
import unittest

from lib import AGENTD, Case, RpcError, alive, call, poll, processes_of, sh, stdin

LONG = 120000


class Exec(Case):
    def outputs(self, *calls, limits=None, **params):
        """The outputs of calls made in one response; the events are in self.c, self.task."""
        self.c, self.task = self.run_task([{"calls": list(calls)}, {"say": "ok"}], limits=limits, **params)
        by_call = {e["call"]: e for e in self.c.of(self.task, "tool.result")}
        self.got = [by_call[e["call"]] for e in self.c.of(self.task, "tool.called")]
        self.ended = {e["call"]: e for e in self.c.of(self.task, "run.ended")}
        # What the model was sent is what the events say, in whatever order the tools ended.
        sent = dict(zip(self.m.requests[1].output_ids(), self.m.requests[1].outputs()))
        self.assertEqual([g["output"] for g in self.got], [sent[f"call_1_{i}"] for i in range(len(calls))])
        return [g["output"] for g in self.got]

    def test_where_it_runs(self):
        sub = "sub folder"
        self.daemon()  # for a workspace; the real one comes below
        out = self.outputs(sh("pwd"), sh(f"mkdir -p '{sub}' && cd '{sub}' && pwd"), sh("pwd", workdir="/"), sh("pwd", workdir="missing/folder"))
        here = os.path.realpath(self.d.workspace)
        self.assertIn(here + "\n", out[0])
        self.assertIn(f"{here}/{sub}\n", out[1])
        self.assertRegex(out[2], r"(?m)^/$")
        self.assertTrue(self.got[3]["is_error"])
        self.assertIn("missing/folder", out[3])

    def test_a_relative_workdir_counts_from_the_workspace(self):
        self.daemon([{"calls": [sh("pwd", workdir="deep/er")]}, {"say": "x"}])
        (self.d.workspace / "deep" / "er").mkdir(parents=True)
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_state(task, "completed")
        self.assertIn(str(self.d.workspace / "deep/er"), c.of(task, "tool.result")[0]["output"])
        self.assertEqual(str(self.d.workspace / "deep/er"), c.of(task, "run.started")[0]["workdir"])

    def test_how_it_ended(self):
        out = self.outputs(sh("exit 0"), sh("exit 7"), sh("kill -9 $$"), sh("no-such-program-here"), sh("echo err >&2"))
        ends = [self.ended[g["call"]] for g in self.got]
        self.assertEqual(["done"] * 5, [e["outcome"] for e in ends])
        self.assertEqual([(0, None), (7, None), (None, 9), (127, None), (0, None)], [(e["exit_code"], e["signal"]) for e in ends])
        self.assertIn("7", out[1])
        self.assertIn("err\n", out[4])
        for g, n in zip(self.got, (0, 0, 0, None, 4)):
            if n is not None:
                self.assertEqual(n, g["output_bytes"])

    def test_shell_things_that_policies_of_others_refuse(self):
        big = "x" * 200000
        out = self.outputs(sh("echo a > f; echo $(cat f) `cat f`; cat <<'E'\nhere\nE\n"), sh("set -o pipefail; false | true; echo $?"),
                           sh(f"cat > big <<'EOF'\n{big}\nEOF\nwc -c < big"))
        self.assertIn("a a\nhere\n", out[0])
        self.assertIn("200001", out[2])

    def test_output_is_cut_in_the_middle_and_counted(self):
        whole = "".join(f"{i}\n" for i in range(1, 200001))
        out = self.outputs(sh("seq 1 200000", yield_ms=LONG), sh("seq 1 200000", limit=1000, yield_ms=LONG))
        for text, least, most in ((out[0], 20000, 60000), (out[1], 1500, 12000)):
            self.assertLess(least, len(text))
            self.assertGreater(most, len(text))
            self.assertIn("1\n2\n3\n", text)
            self.assertIn("199999\n200000", text)
            numbers = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", text.split("1\n2\n3\n", 1)[1])]
            head = re.search(r"1\n2\n3\n(?:\d+\n)*", text)[0]
            self.assertTrue(whole.startswith(head.rsplit("\n", 2)[0]))
            tail = re.search(r"(?:\d+\n)*199999\n200000", text)[0]
            self.assertTrue(whole.rstrip().endswith(tail.split("\n", 1)[1]))
            # The line between says how much is missing: head + left out + tail is all of it, give or take the cut lines' pieces.
            left = [n for n in numbers if abs(n + len(head) + len(tail) - len(whole)) < 64]
            self.assertTrue(left, f"no count of what was left out ({len(whole) - len(head) - len(tail)}) in {text[:300]!r} ...")
        self.assertEqual([len(whole)] * 2, [g["output_bytes"] for g in self.got])

    def test_bytes_that_are_no_text(self):
        out = self.outputs(sh(r"printf '\377\376ok\000mid\303\050end'"), sh(r"printf 'a\r50%%\r100%%\n\033[31mred\033[0m'"),
                           sh("head -c 5000 /dev/urandom"))
        self.assertIn("ok", out[0])
        self.assertIn("\ufffd", out[0])
        self.assertIn("end", out[0])
        self.assertIn("100%", out[1])
        self.assertEqual(13, self.got[0]["output_bytes"])
        self.assertEqual(5000, self.got[2]["output_bytes"])

    def test_a_hundred_megabytes_slow(self):
        self.daemon([{"calls": [sh("head -c 100000000 /dev/zero | tr '\\0' x", yield_ms=LONG)]}, {"say": "ok"}])
        c = self.d.client()
        before = self.d.memory_kb()
        task = c.create(self.d.workspace)
        c.wait_state(task, "completed", timeout_s=120)
        self.assertEqual(100000000, c.wait_event(task, "run.ended")["output_bytes"])
        result = c.wait_event(task, "tool.result")
        self.assertEqual(100000000, result["output_bytes"])
        self.assertLess(len(result["output"]), 100000)
        self.assertLess(self.d.memory_kb("VmHWM") - before, 48 << 10)
        self.assertLess(len(self.m.requests[1].body), 200000)

    def test_output_past_the_cap_is_drained_and_counted(self):
        out = self.outputs(sh("head -c 5000000 /dev/zero | tr '\\0' x; echo the end", yield_ms=LONG), limits={"run_output_bytes_max": 65536})
        self.assertEqual(5000008, self.got[0]["output_bytes"])
        self.assertEqual((0, 5000008), tuple(self.ended[self.got[0]["call"]][k] for k in ("exit_code", "output_bytes")))
        kept = sum(p.stat().st_size for p in self.d.state_dir.rglob("out"))
        self.assertLessEqual(kept, 65536 + 4096)

    def test_what_a_tool_sees_of_descriptors_and_signals(self):
        script = ("import os,json,resource,signal\nfds=[]\nfor fd in range(4096):\n try: os.fstat(fd); fds.append(fd)\n except OSError: pass\n"
                  "st=dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if l.startswith('Sig'))\n"
                  "print(json.dumps({'fds':fds,'ignored':int(st['SigIgn'],16),'blocked':int(st['SigBlk'],16),"
                  "'nofile':resource.getrlimit(resource.RLIMIT_NOFILE)[0],'core':resource.getrlimit(resource.RLIMIT_CORE)[0],"
                  "'sid':os.getsid(0),'tty':[os.isatty(i) for i in (0,1,2)],'umask':os.umask(0)}))")
        self.daemon()
        path = self.d.workspace / "see.py"
        path.write_text(script)
        source = path.read_text()
        out = self.outputs(sh(f"cat > see.py <<'EOF'\n{source}\nEOF\nexec python3 see.py"))
        seen = json.loads(re.search(r"\{.*\}", out[0])[0])
        self.assertEqual([0, 1, 2], seen["fds"])
        # Python itself ignores SIGPIPE (13) and SIGXFSZ (25).
        self.assertEqual(0, seen["ignored"] & ~((1 << 12) | (1 << 24)))
        self.assertEqual(0, seen["blocked"])
        import resource
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], seen["nofile"])
        self.assertEqual([False] * 3, seen["tty"])
        self.assertNotEqual(os.getsid(self.d.pid), seen["sid"])

    def test_a_sanitizer_in_a_runner_would_be_heard(self):
        out = self.outputs(sh("tr '\\0' '\\n' < /proc/$PPID/environ"))
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            self.assertIn(f"{name}={self.d.env[name]}\n", out[0])

    def test_what_a_tool_sees_of_the_environment(self):
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/some/home", "OPENAI_API_KEY": "sk-x", "AWS_SECRET_ACCESS_KEY": "y",
               "LD_PRELOAD": "/x.so", "MY_TOKEN": "z", "VIRTUAL_ENV": "/venv"}
        out = self.outputs(sh("env -0 | tr '\\0' '\\n' | sort; echo END"), env=env)
        seen = dict(line.split("=", 1) for line in out[0].split("END")[0].splitlines() if re.match(r"\w+=", line))
        for name in ("PATH", "LANG", "HOME", "VIRTUAL_ENV"):
            self.assertEqual(env[name], seen.get(name), name)
        for name in ("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "MY_TOKEN", "AGENTD_TEST_KEY", "ASAN_OPTIONS",
                     "AGENTD_SOCKET", "AGENTD_STATE_DIR", "AGENTD_CONFIG"):
            self.assertNotIn(name, seen)
        self.assertEqual(self.task, seen["AGENTD_TASK"])
        self.assertIn("AGENTD_RUN", seen)

    def test_a_task_without_environment_still_finds_its_programs(self):
        out = self.outputs(sh("ls / > /dev/null && echo fine"))
        self.assertIn("fine", out[0])

    def test_a_terminal(self):
        out = self.outputs(sh("tty; test -t 0 && test -t 1 && echo is-a-tty; stty size", tty=True), sh("test -t 0 || echo no-tty"))
        self.assertIn("is-a-tty", out[0])
        self.assertIn("/dev/pts/", out[0])
        self.assertNotRegex(out[0], r"(?m)^0 0\s*$")
        self.assertIn("no-tty", out[1])

    def test_a_background_process_that_holds_the_pipe_open(self):
        began = time.monotonic()
        out = self.outputs(sh("sleep 1000 & echo done", yield_ms=LONG))
        self.assertLess(time.monotonic() - began, 60)
        self.assertIn("done", out[0])
        self.assertEqual(0, self.ended[self.got[0]["call"]]["exit_code"])
        with self.subTest("it lives on, and cancel ends it"):
            self.assertTrue([p for p in processes_of(self.d.dir).values() if "sleep 1000" in p])
            self.c.call("task/cancel", task=self.task)
            poll(lambda: not [p for p in processes_of(self.d.dir).values() if "sleep 1000" in p], what="its end")

    def test_a_server_in_the_background_is_there_for_the_next_call(self):
        server = ("import http.server,socketserver\n"
                  "s=socketserver.TCPServer(('127.0.0.1',0),http.server.SimpleHTTPRequestHandler)\n"
                  "open('port.tmp','w').write(str(s.server_address[1]))\nimport os\nos.rename('port.tmp','port')\ns.serve_forever()\n")
        start = sh(f"cat > srv.py <<'EOF'\n{server}EOF\nnohup python3 srv.py > server.log 2>&1 &\nwhile [ ! -e port ]; do sleep 0.02; done; echo up",
                   yield_ms=LONG)
        fetch = sh("python3 -c \"import urllib.request;print(urllib.request.urlopen('http://127.0.0.1:'+open('port').read()+'/srv.py')"
                   ".read().decode()[:11])\"", yield_ms=LONG)
        c, task = self.run_task([{"calls": [start]}, {"calls": [fetch]}, {"say": "ok"}])
        self.assertIn("up", self.m.requests[1].outputs()[0])
        self.assertIn("import http", self.m.requests[2].outputs()[1])
        c.call("task/cancel", task=task)
        poll(lambda: not processes_of(self.d.workspace), what="the server's end")


class Sessions(Case):
    """A process that outlives its call is talked to by number."""

    def test_yield_then_input_then_end(self):
        steps = [{"calls": [sh("echo ready; while read -r line; do echo got:$line; [ \"$line\" = end ] && exit 5; done", yield_ms=500)]},
                 {"calls": [stdin(1, "hello\n", yield_ms=3000)]}, {"calls": [stdin(1, "", yield_ms=500)]},
                 {"calls": [stdin(1, "end\n", yield_ms=LONG)]}, {"calls": [stdin(1, "more\n")]}, {"say": "ok"}]
        c, task = self.run_task(steps)
        out = self.m.requests[5].outputs()
        self.assertIn("ready", out[0])
        self.assertIn("1", out[0])
        self.assertIn("got:hello", out[1])
        self.assertNotIn("ready", out[1])
        self.assertNotIn("got:hello", out[2])
        self.assertIn("got:end", out[3])
        self.assertIn("5", out[3])
        results = c.of(task, "tool.result")
        self.assertEqual([False] * 4 + [True], [r["is_error"] for r in results])
        self.assertEqual(1, len(c.of(task, "run.started")))
        self.assertEqual(5, c.wait_event(task, "run.ended")["exit_code"])

    def test_nothing_of_the_output_is_lost_or_twice_between_polls(self):
        steps = [{"calls": [sh("for i in $(seq 1 300); do echo line-$i; sleep 0.01; done", yield_ms=300)]}]
        steps += [lambda r: {"say": "all"} if "line-300\n" in "".join(r.outputs()) else {"calls": [stdin(1, "", yield_ms=700)]}] * 60
        c, task = self.run_task(steps)
        text = "".join(self.m.requests[-1].outputs())
        self.assertEqual([str(i) for i in range(1, 301)], re.findall(r"line-(\d+)\n", text))

    def test_a_terminal_session_takes_control_characters(self):
        steps = [{"calls": [sh("cat; echo after-cat", tty=True, yield_ms=500)]}, {"calls": [stdin(1, "typed\n", yield_ms=1000)]},
                 {"calls": [stdin(1, "\x04", yield_ms=LONG)]},
                 {"calls": [sh("sleep 1000; echo never", tty=True, yield_ms=500)]}, {"calls": [stdin(2, "\x03", yield_ms=LONG)]}, {"say": "x"}]
        c, task = self.run_task(steps)
        out = self.m.requests[5].outputs()
        self.assertIn("typed", out[1])
        self.assertIn("after-cat", out[2])
        self.assertNotIn("never", out[4])
        ends = c.of(task, "run.ended")
        self.assertEqual(0, ends[0]["exit_code"])
        self.assertTrue(ends[1]["signal"] == 2 or ends[1]["exit_code"] == 130)

    def test_a_poll_returns_as_soon_as_the_process_ends(self):
        steps = [{"calls": [sh("while [ ! -e go ]; do sleep 0.02; done; echo bye", yield_ms=300)]},
                 {"calls": [stdin(1, "", yield_ms=LONG)]}, {"say": "x"}]
        self.daemon(steps)
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_event(task, "tool.called", n=2)
        began = time.monotonic()
        (self.d.workspace / "go").touch()
        c.wait_state(task, "completed")
        self.assertLess(time.monotonic() - began, 30)
        self.assertIn("bye", self.m.requests[2].outputs()[1])

    def test_an_end_after_the_answer_reaches_the_model_as_a_note(self):
        steps = [{"calls": [sh("while [ ! -e go ]; do sleep 0.02; done; exit 9", yield_ms=300)]},
                 {"calls": [sh("touch go; sleep 0.5", yield_ms=LONG)]},
                 lambda r: {"say": "seen"} if "9" in notes(r) else {"calls": [sh("sleep 0.3", yield_ms=LONG)]}]
        self.daemon(steps + [steps[2]] * 40)
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_state(task, "completed")
        self.assertEqual("seen", c.of(task, "message")[-1]["text"])
        self.assertIn("9", notes(self.m.requests[-1]))

    def test_large_input_arrives_whole(self):
        data = "".join(f"{i:07d}\n" for i in range(40000))  # 320 KB, far more than a pipe holds
        steps = [{"calls": [sh("sleep 0.5; head -c 320000 | sha256sum", yield_ms=250)]}, {"calls": [stdin(1, data, yield_ms=LONG)]}, {"say": "x"}]
        import hashlib
        c, task = self.run_task(steps)
        self.assertIn(hashlib.sha256(data.encode()).hexdigest(), "".join(self.m.requests[-1].outputs()))

    def test_living_processes_are_bounded(self):
        calls = [sh("while [ ! -e go ]; do sleep 0.05; done", yield_ms=250) for _ in range(4)]
        self.daemon([{"calls": calls}, {"say": "x"}], limits={"runs_per_task_max": 3})
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_state(task, "completed")
        results = c.of(task, "tool.result")
        self.assertEqual(1, len([r for r in results if r["is_error"]]))
        (self.d.workspace / "go").touch()
        c.wait_event(task, "run.ended", n=3)


def notes(request):
    """The texts of messages that are neither the prompt nor said by the model."""
    texts = request.texts("user") + request.texts("developer") + request.texts("system")
    return "\n".join(t for t in texts if "run" in t.lower() or "session" in t.lower() or "process" in t.lower()) \
        .replace(request.texts("user")[0], "")


class Killing(Case):
    def test_cancel_ends_what_ignores_sigterm(self):
        script = "trap '' TERM HUP INT; echo begun; while :; do sleep 0.1; done"
        self.daemon([{"calls": [sh(script, yield_ms=LONG), sh("(trap '' TERM; setsid sleep 1000 & ); trap '' TERM; sleep 1000; sleep 1000",
                                                             yield_ms=LONG)]}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_for(lambda: c.ran("begun"), what="the tool at work")
        c.call("task/cancel", task=task)
        c.wait_state(task, "cancelled")
        for n in (1, 2):
            self.assertEqual("killed", c.wait_event(task, "run.ended", n=n)["outcome"])
        poll(lambda: not processes_of(self.d.workspace), what="the end of all processes")
        self.assertEqual(1, len(self.m.requests))

    def test_sigterm_lets_a_program_clean_up(self):
        self.daemon([{"calls": [sh("trap 'echo cleaned > cleaned; exit 0' TERM; echo begun; while :; do sleep 0.05; done", yield_ms=LONG)]}],
                    limits={"kill_grace_ms": 20000})
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_for(lambda: c.ran("begun"), what="the tool at work")
        c.call("task/cancel", task=task)
        poll(lambda: (self.d.workspace / "cleaned").exists(), what="the clean-up")
        c.wait_event(task, "run.ended")

    def test_a_forgetful_parent(self):
        """Grandchildren in sessions of their own, with no environment, still belong to the run."""
        self.daemon([{"calls": [sh("setsid env -i /bin/sleep 1001 & disown 2>/dev/null; sleep 0.1; echo ok", yield_ms=LONG)]}, {"say": "x"}])
        c = self.d.client()
        task = c.create(self.d.workspace)
        c.wait_state(task, "completed")
        found = [p for p, line in processes_of(self.d.workspace).items() if "sleep 1001" in line]
        self.assertEqual(1, len(found))
        c.call("task/cancel", task=task)
        poll(lambda: not alive(found[0]), what="its end")


class Room(Case):
    """A process whose runner finds no room to start it waits for room, with all that is asked of it meanwhile."""

    def begin(self):
        if b"AGENTD_FAILING" not in AGENTD.read_bytes():
            self.skipTest("a build without failpoints")
        d = self.daemon([{"calls": [sh("echo effect >> effects; read -r l; echo $l", yield_ms=300)]}, {"calls": [stdin(1, "hello\n", yield_ms=LONG)]},
                         {"say": "ok"}], limits={"database_retry_ms": 20}, start=False)
        self.failing = d.dir / "failing"
        self.failing.write_text("runner.full")
        d.env["AGENTD_FAILING"] = str(self.failing)
        d.start("--log-level", "debug")
        c = d.client()
        task = c.create(d.workspace)
        poll(lambda: d.log_text().count("waits for room to start") > 9, what="a process that waits for room, and asks again and again")
        return c, task

    def check_once(self, c, task):
        c.wait_state(task, "completed")
        self.assertEqual("effect\n", (self.d.workspace / "effects").read_text())
        self.assertEqual([("done", 6)], [(e["outcome"], e["output_bytes"]) for e in c.of(task, "run.ended")])

    def test_it_starts_once_there_is_room(self):
        c, task = self.begin()
        c.wait_event(task, "tool.called", n=2)
        self.assertEqual([], c.of(task, "run.ended"))
        self.failing.unlink()
        self.check_once(c, task)

    def test_another_daemon_starts_it(self):
        c, task = self.begin()
        self.d.kill()
        self.d.start()
        self.failing.unlink()
        c = self.d.client()
        c.subscribe(task=task, after_seq=0)
        self.check_once(c, task)

    def test_it_never_starts_once_it_is_cancelled(self):
        c, task = self.begin()
        c.call("task/cancel", task=task)
        c.wait_state(task, "cancelled")
        self.assertEqual("not_started", c.wait_event(task, "run.ended")["outcome"])
        self.assertFalse((self.d.workspace / "effects").exists())


if __name__ == "__main__":
    unittest.main()
