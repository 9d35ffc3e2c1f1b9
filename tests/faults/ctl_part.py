"""Allocations of agentctl fail, place by place, in each of its commands: it does all of it, or says what it lacks and ends with a status
other than 0; and what it says that it did is done."""
import collections
import random
import re
import subprocess

from place import Client, RpcError
from starving import FROM_THEN_ON, NOT, ONCE, Starved

WAIT_S = 60


class CtlPart:
    def __init__(self, options):
        self.options, self.rng = options, random.Random(f"{options.seed} agentctl")
        self.d, self.n, self.ends, self.whole = Starved(), 0, collections.Counter(), {}

    def commands(self, task):
        self.n += 1
        return {"version": ["--version"], "help": ["--help"], "run --help": ["run", "--help"], "status": ["status", "--all"],
                "status --json": ["status", "--all", "--json"], "status of one": ["status", task], "log": ["log", task],
                "log --json": ["log", "--json", task], "attach": ["attach", task], "wait": ["wait", task], "models": ["models"],
                "doctor": ["doctor", "--json"], "daemon status": ["daemon", "status"], "config check": ["config", "check"],
                "usage": ["status", "--no-such"], "run": ["run", "--detach", "--key", f"k{self.n}", "-n", f"n{self.n}", f"Do {self.n}."],
                "run to its end": ["run", f"Do {self.n}."], "backup": ["backup", str(self.d.dir / f"copy-{self.n}")]}

    def call(self, name, starved):
        """(exit code, output, errors, arguments)"""
        arguments = self.commands(self.task)[name]
        done = self.d.ctl(*arguments, env=self.d.control.environment(self.d.plain_env) if starved else None, timeout_s=WAIT_S)
        return done.returncode, done.stdout, done.stderr, arguments

    @staticmethod
    def shape(text):
        """Without what changes from one call to the next."""
        return re.sub(r"\d[\d.,:]*( ?[kMGT]?i?B| ?m?s)?", "0", text)

    def judge(self, name, code, output, errors, arguments):
        whole_code, whole = self.whole[name]
        self.ends[code] += 1
        if code == whole_code:
            if name in ("version", "help", "run --help", "log", "log --json", "wait", "models", "attach") and self.shape(output) != whole:
                return f"exit {code}, and this is not all: {output!r}, wanted {whole!r}"
            return self.judge_done(name, arguments) if code == 0 else None
        if code not in (71, 1, 3) or not errors.strip():
            return f"exit {code}: {errors!r}"
        return None

    def judge_done(self, name, arguments):
        with Client(self.d.socket, problems=self.d.problems) as c:
            try:
                if name == "run":
                    c.call("task/get", task=arguments[5])
            except RpcError as e:
                return f"{arguments} was acknowledged: {e}"
        return None

    def find(self):
        for phase, name in enumerate(self.commands("x")):
            self.d.control.phase(phase)
            code, output, _, _ = self.call(name, True)
            self.whole[name] = code, self.shape(output)
        self.d.control.take()

    def targets(self):
        found = [(s, how) for s in self.d.control.of("agentctl") for how in (ONCE, FROM_THEN_ON) if not s.foreign]
        self.rng.shuffle(found)
        found.sort(key=lambda f: f[0].ends and self.rng.random() < 0.7)  # ours all end in the same way
        return found

    def one(self, name, site, how):
        control = self.d.control
        control.arm(site.hash, how)
        control.shots(1)
        try:
            wrong = self.judge(name, *self.call(name, True))
        except subprocess.TimeoutExpired:
            wrong = "hangs"
        control.shots(0)
        control.arm(site.hash, NOT)
        control.take()
        if wrong:
            self.d.problems.append(f"agentctl {name}: {wrong}\n{control.failed[-1] if control.failed else ''}")

    def run(self, until, report):
        d = self.d
        d.rehearse(main={"steps": [{"say": "It is done.", "repeat": 3}]})
        try:
            d.launch()
            d.wait_ready()
            self.task = d.ctl("run", "--detach", "Begin.", check=0).stdout.strip()
            d.ctl("wait", self.task, check=0)
            d.control.program("agentctl")
            self.find()
            names, targets = list(self.whole), self.targets()
            for site, how in targets:
                if until() or len(d.problems) > 6:
                    break
                self.one(names[site.phase], site, how)
        finally:
            wrong = d.finish(keep=self.options.keep)
        report.take("agentctl: does all of it or says what it lacks, and no end is a crash, a leak or a hang", wrong)
        failed = {f.site.hash for f in d.control.failed}
        print(f"# agentctl: {len(failed)} of {len({s.hash for s, _ in targets})} places failed in {self.n} calls; exit codes "
              + ", ".join(f"{k}: {n}" for k, n in sorted(self.ends.items())))
