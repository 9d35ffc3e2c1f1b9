"""What is killed: a daemon in folders of its own, the scripted model servers that outlive it, and the independent record of what tools
really did. Tools leave a line in `effects`, synced, each time that they run: the oracle's only witness."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
sys.dont_write_bytecode = True
os.environ.setdefault("AGENTD_BUILD", str(pathlib.Path(__file__).resolve().parents[2] / "build-test"))

from lib import AGENTD, BUILD, REHEARSAL, ROOT, Client, Closed, Daemon, RpcError, alive, poll, processes_of  # noqa: E402, F401

SUPERVISE = BUILD / "daemon" / "supervisor" / "agentd-supervise"
EFFECT = """#!/bin/sh
# One synced line each time that a tool runs: task/run, and which of its effects.
printf '%s %s\\n' "$AGENTD_RUN" "$1" >> '{effects}'
sync -d '{effects}'
printf 'did %s\\n' "$1"
"""
# What is none of a killed daemon's faults: half of a line; the leak check of an orderly end, which was killed before it wrote (the report
# is empty then) or found the process gone that it looks at.
CUT_SHORT = [re.compile(r"ended inside a frame"),
             re.compile(r"^sanitizer report \S+: (==\S*?==\d+==Unable to get registers from thread \d+\.\s*)*\Z")]


def now_ms():
    return time.time_ns() // 1000000


class Bodies:
    """The requests that a model server got, in order of arrival: keeps each task's longest, judges that all of them are its prefixes."""

    def __init__(self, folder):
        self.folder, self.seen, self.problems = folder, 0, []
        self.longest, self.lock = {}, threading.Lock()

    def read(self, last=False):
        with self.lock:
            names = sorted(p.name for p in self.folder.iterdir())
            for name in names if last else names[:-1]:  # the last one may be being written
                path = self.folder / name
                self._take(name, path.read_bytes())
                path.unlink()

    def _take(self, name, body):
        self.seen += 1
        match = re.search(rb'"prompt_cache_key":"(t[0-9a-z]+)"', body)
        if not match or not body.endswith(b"]}"):
            return self.problems.append(f"request {name} is not whole: {body[-80:]!r}")
        task = match[1].decode()
        before = self.longest.get(task, b"]}")
        short, long = sorted((before, body), key=len)
        if not long.startswith(short[:-2]):
            at = next(i for i, (a, b) in enumerate(zip(short, long)) if a != b)
            self.problems.append(f"request {name} of {task} differs from one before at {at}: "
                                 f"{before[max(0, at - 80):at + 120]!r} / {body[max(0, at - 80):at + 120]!r}")
        self.longest[task] = long

    def items(self, task):
        return json.loads(self.longest[task])["input"] if task in self.longest else []


class Rehearsed:
    def __init__(self, place, name, script):
        folder = place.dir / f"bodies-{name}"
        folder.mkdir()
        self.bodies = Bodies(folder)
        path = place.dir / f"{name}.json"
        path.write_text(json.dumps(script))
        self.process = subprocess.Popen([str(REHEARSAL), "--script", str(path), "--bodies", str(folder)], env=place.env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=open(place.dir / "rehearsal.stderr", "ab"), text=True)
        self.url = self.process.stdout.readline().split()[-1] + "/v1"

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()
        return self.process.returncode


class Killed(Daemon):
    """A daemon that is made to die. `deaths`: when each one was known to be over, by the wall clock; `stops`: the numbers of those that
    it met while it was stopping."""

    def __init__(self):
        super().__init__()
        self.deaths, self.stops, self.models, self.supervisor, self.starts = [], set(), {}, None, 0
        self.effects, self.effect = self.dir / "effects", self.dir / "effect"
        self.effects.touch()
        self.effect.write_text(EFFECT.format(effects=self.effects))
        self.effect.chmod(0o755)
        self.bare_env = dict(self.env)

    def rehearse(self, limits=None, **scripts):
        self.models = {name: Rehearsed(self, name, script) for name, script in scripts.items()}
        limits = dict({"retry_ms_min": 20, "retry_ms_max": 200, "kill_grace_ms": 500}, **(limits or {}))
        one = "provider: {0}, name: test-model, context_window: 2720000, max_output_tokens: 32000"
        models = "".join(f"  {n}: {{{one.format(n)}}}\n" for n in scripts)
        urls = "".join(f'  {n}: {{wire: openai-responses, base_url: "{m.url}", key: "env:AGENTD_TEST_KEY"}}\n'
                       for n, m in self.models.items())
        self.write_config(text=f"model: {next(iter(scripts))}\nmodels:\n{models}providers:\n{urls}policy: open\n"
                               f"limits: {{{', '.join(f'{k}: {v}' for k, v in limits.items())}}}\n")

    def launch(self, failpoint=None, runner_failpoint=None):
        """Starts it and does not wait for anything."""
        self.env = dict(self.bare_env)
        if failpoint:
            self.env["AGENTD_FAILPOINT"] = failpoint
        if runner_failpoint:
            self.env["AGENTD_RUNNER_FAILPOINT"] = runner_failpoint
        self.starts += 1
        self.start(wait=False)
        self.env = self.bare_env

    def died(self, timeout_s, orderly=False):
        """Whether it ended by itself in that time. Any end but SIGKILL is a problem (`orderly`: or exit code 0)."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self.deaths.append(now_ms())
        self.process = None
        if code != -signal.SIGKILL and not (orderly and code == 0):
            self.problems.append(f"the daemon ended by itself with {code}:\n{self.log_text()[-3000:]}")
        return True

    def kill(self):
        super().kill()
        self.deaths.append(now_ms())

    # ---- under its supervisor ----

    def supervise(self):
        command = [str(SUPERVISE), "--agentd", str(AGENTD), "--log", str(self.state_dir / "daemon.log"), "--watch", str(self.state_dir),
                   "--", "--state-dir", str(self.state_dir), "--socket", str(self.socket), "--config", str(self.config)]
        done = subprocess.run(command, env=self.bare_env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            self.problems.append(f"agentd-supervise: exit {done.returncode}: {done.stderr}")

    def supervised_pid(self, not_pid=None):
        def look():
            try:
                with Client(self.socket, problems=[], timeout_s=5) as c:
                    pid = c.call("daemon/status")["daemon"]["pid"]
                return pid if pid != not_pid else None
            except (OSError, AssertionError, Closed):
                return None
        return poll(look, what="the daemon under its supervisor")

    def kill_supervised(self):
        pid = self.supervised_pid()
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.001)
        self.deaths.append(now_ms())
        return self.supervised_pid(not_pid=pid)

    # ---- the witness ----

    def effects_seen(self):
        """(task, run, label) of each effect, in order."""
        found = []
        for line in self.effects.read_text().splitlines():
            run, _, label = line.partition(" ")
            found.append((*run.split("/"), label))
        return found

    def finish(self, allowed_errors=(), keep=False):
        self.cancel_all()
        for client in self.clients:
            client.close()
        self.stop()
        wrong = []
        for name, model in self.models.items():
            code = model.close()
            if code != 0:
                wrong.append(f"the rehearsal {name} ended with {code}")
        wrong += super().finish(allowed_errors, keep)
        return [w for w in wrong if not any(cut.search(w) for cut in CUT_SHORT)]
