"""Starts the built programs in folders of their own and sees them off: teardown finds what a test would overlook (sanitizer
reports, ERROR lines, processes left behind, an end that is not orderly)."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from . import schema
from .client import Client

ROOT = schema.ROOT
BUILD = pathlib.Path(os.environ.get("AGENTD_BUILD", ROOT / "build-test")).resolve()
AGENTD = BUILD / "daemon" / "agentd"
AGENTCTL = BUILD / "client" / "agentctl"
REHEARSAL = BUILD / "daemon" / "rehearsal" / "agentd-rehearsal"
KEY = "sk-canary-7f3a91c2d4e85b60"  # must never be found in any file, event or reply
DEADLINE_S = 60


def poll(predicate, timeout_s=DEADLINE_S, what="the condition"):
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.01)
    return value


def read_proc(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def alive(pid):
    stat = read_proc(pid, "stat")
    return bool(stat) and stat.rsplit(b")", 1)[1].split()[0] not in (b"Z", b"X")


def processes_of(folder):
    """Processes that have the folder in their command line, environment or working directory. Not this one."""
    mark, found = os.fsencode(str(folder)), {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        cmdline = read_proc(entry, "cmdline")
        try:
            cwd = os.fsencode(os.readlink(f"/proc/{entry}/cwd"))
        except OSError:
            cwd = b""
        if (mark in cmdline or mark in read_proc(entry, "environ") or cwd.startswith(mark)) and alive(int(entry)):
            found[int(entry)] = cmdline.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def daemons_of(state_dir):
    """Pids of living daemons (not supervisors: they hold the lock file, but no database)."""
    database = str(pathlib.Path(state_dir) / "agentd.db")
    found = []
    for pid in processes_of(state_dir):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if database in links:
            found.append(pid)
    return found


class Place:
    """A private home: state folder, socket, configuration, workspace, environment. Starts nothing."""

    def __init__(self, folder=None):
        self.dir = folder or pathlib.Path(tempfile.mkdtemp(prefix="agentd-bb-"))
        self.state_dir, self.socket = self.dir / "state", self.dir / "run" / "agentd.sock"
        self.config, self.workspace = self.dir / "config.yaml", self.dir / "work"
        self.home, self.tmp, self.reports = self.dir / "home", self.dir / "tmp", self.dir / "reports"
        for folder in (self.workspace, self.home, self.tmp, self.reports):
            folder.mkdir()
        self.problems = []
        self.env = self.make_env()

    def make_env(self):
        report = f"log_path={self.reports}/report:log_exe_name=1:abort_on_error=0"
        seen = {} if os.geteuid() == 0 else {"AGENTD_DUMPABLE": "1"}  # only root may look into one that hides
        return {
            **seen, "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self.home), "TMPDIR": str(self.tmp),
            "LANG": "C.UTF-8", "TZ": "UTC", "NO_COLOR": "1", "AGENTD_TEST_KEY": KEY,
            "AGENTD_STATE_DIR": str(self.state_dir), "AGENTD_SOCKET": str(self.socket), "AGENTD_CONFIG": str(self.config),
            "ASAN_OPTIONS": report + ":detect_leaks=1:quarantine_size_mb=16:handle_abort=1",
            "UBSAN_OPTIONS": report + ":print_stacktrace=1:halt_on_error=1",
            "LSAN_OPTIONS": "print_suppressions=0",
        }

    def write_config(self, base_url=None, wire="openai-responses", limits=None, text=None, key="env:AGENTD_TEST_KEY"):
        if text is None:
            limits = dict({"retry_ms_min": 50, "retry_ms_max": 2000, "kill_grace_ms": 1000}, **(limits or {}))
            text = (f'model: main\nmodels:\n  main: {{provider: local, name: test-model, context_window: 272000, '
                    f'max_output_tokens: 32000,\n         price: {{input: 1.75, cached_input: 0.175, output: 14.0}}}}\n'
                    f'providers:\n  local: {{wire: {wire}, base_url: "{base_url or "http://127.0.0.1:9/v1"}", key: "{key}"}}\n'
                    f'policy: open\nlimits: {{{", ".join(f"{k}: {v}" for k, v in limits.items())}}}\n')
        self.config.write_text(text)

    def ctl(self, *args, input=None, timeout_s=120, env=None, check=None, cwd=None):
        """Runs agentctl to its end. With `check`, asserts the exit code."""
        done = subprocess.run([str(AGENTCTL), *map(str, args)], input=input, capture_output=True, timeout=timeout_s,
                              env=env or self.env, cwd=cwd or self.workspace, text=True,
                              **({} if input is not None else {"stdin": subprocess.DEVNULL}))
        if check is not None and done.returncode != check:
            raise AssertionError(f"agentctl {' '.join(map(str, args))}: exit {done.returncode}, not {check}\n"
                                 f"stdout: {done.stdout[-2000:]}\nstderr: {done.stderr[-2000:]}")
        return done

    def ctl_start(self, *args, **more):
        options = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env,
                       cwd=self.workspace, text=True)
        return subprocess.Popen([str(AGENTCTL), *map(str, args)], **dict(options, **more))

    def log_text(self):
        text = ""
        for path in (self.state_dir / "daemon.log", self.dir / "daemon.stderr"):
            if path.exists():
                text += path.read_text(errors="replace")
        return text

    # ---- the end ----

    def find_reports(self):
        texts = [(p.name, p.read_text(errors="replace").split("Shadow bytes around")[0]) for p in sorted(self.reports.iterdir())]
        return [f"{name}: {text[:6000]}" for name, text in texts]

    def find_error_lines(self, allowed):
        return [line for line in self.log_text().splitlines()
                if re.match(r"\S+ ERROR ", line) and not any(re.search(a, line) for a in allowed)]

    def find_canary(self):
        found = []
        for path in [p for p in self.state_dir.rglob("*") if p.is_file()] + [self.dir / "daemon.stderr"]:
            if path.exists() and KEY.encode() in path.read_bytes():
                found.append(str(path))
        return found

    def finish(self, allowed_errors=(), keep=False):
        """Ends what is left and returns what is wrong."""
        wrong = list(self.problems)
        deadline = time.monotonic() + 15
        while (left := processes_of(self.dir)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid, command in left.items():
            wrong.append(f"process {pid} was left behind: {command}")
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        wrong += [f"sanitizer report {r}" for r in self.find_reports()]
        wrong += [f"log: {line}" for line in self.find_error_lines(allowed_errors)]
        wrong += [f"the provider's key is in {path}" for path in self.find_canary()]
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        return wrong


class Daemon(Place):
    """One daemon in the foreground, without a supervisor. start() and kill() may alternate."""

    def __init__(self, folder=None):
        super().__init__(folder)
        self.process, self.clients = None, []

    def start(self, *more, wait=True):
        assert self.process is None
        with open(self.dir / "daemon.stderr", "ab") as err:
            self.process = subprocess.Popen(
                [str(AGENTD), "--foreground", "--state-dir", str(self.state_dir), "--socket", str(self.socket),
                 "--config", str(self.config), *more],
                env=self.env, stdin=subprocess.DEVNULL, stdout=err, stderr=err, cwd="/")
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended at its start with {self.process.returncode}:\n{self.log_text()[-3000:]}")
            try:
                Client(self.socket, problems=self.problems, timeout_s=10).close()
                return True
            except (OSError, AssertionError, ConnectionError):
                return False
            except Exception as e:  # Closed: it was just ending
                return type(e).__name__ not in ("Closed",)
        poll(ready, what="the daemon's first answer")

    @property
    def pid(self):
        return self.process.pid

    def client(self, **more):
        client = Client(self.socket, problems=self.problems, **more)
        self.clients.append(client)
        return client

    def kill(self):
        """As a crash: no warning."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self, timeout_s=60):
        """In an orderly way; an exit code other than 0 is a problem."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            code = self.process.wait(timeout_s)
            if code != 0:
                self.problems.append(f"the daemon's exit code is {code}:\n{self.log_text()[-2000:]}")
        except subprocess.TimeoutExpired:
            self.problems.append("the daemon did not end on SIGTERM")
            self.process.kill()
            self.process.wait()
        self.process = None

    def memory_kb(self, name="VmRSS"):
        return int(re.search(rb"%s:\s+(\d+)" % name.encode(), read_proc(self.pid, "status"))[1])

    def cancel_all(self):
        """Ends what tasks have left at work, background servers of ended tasks too."""
        if self.process is None or self.process.poll() is not None or not processes_of(self.workspace.parent):
            return
        try:
            with Client(self.socket, timeout_s=30) as client:
                for task in client.call("task/list", all=True)["tasks"]:
                    if task["state"] in ("completed", "failed", "cancelled") and not task["runs"]:
                        continue
                    try:
                        client.call("task/cancel", task=task["id"])
                    except Exception:
                        pass  # it ended meanwhile: what it leaves behind is looked for below
        except Exception as e:
            self.problems.append(f"at teardown: {type(e).__name__}: {e}")

    def finish(self, allowed_errors=(), keep=False):
        self.cancel_all()
        for client in self.clients:
            client.close()
        self.stop()
        return super().finish(allowed_errors, keep)


class Rehearsal:
    """agentd-rehearsal with a script given as a dict."""

    def __init__(self, place, script):
        self.path = place.dir / f"script-{time.monotonic_ns()}.json"
        self.path.write_text(json.dumps(script))
        self.process = subprocess.Popen([str(REHEARSAL), "--script", str(self.path), "--listen", "127.0.0.1:0"],
                                        env=place.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=open(place.dir / "rehearsal.stderr", "ab"), text=True)
        line = self.process.stdout.readline()
        match = re.search(r"listening on (http://127\.0\.0\.1:\d+)", line)
        if not match:
            raise AssertionError(f"agentd-rehearsal said {line!r}; {(place.dir / 'rehearsal.stderr').read_text()[-1000:]}")
        self.url = match[1]
        self.base_url = self.url + "/v1"

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()
