"""Allocations of the daemon fail under load, place by place. What may become of it: it goes on; it ends with a sentence, with a status
after which it is started again; that it is cut down counts as a kill. The rules of tests/crash/oracle.py hold for all lives together."""
import collections
import json
import random
import re
import subprocess
import time

import load as loads
import oracle
from place import Client, Closed, RpcError, now_ms
from starving import FROM_THEN_ON, NOT, ONCE, SERVING, STARTING, STOPPING, Starved

MET_S = 0.3       # a daemon that meets no place in that time is started anew
MET_EARLY_S = 0.7 # and then has others armed
HANG_S = 30
LIFE_MAX = 12     # turns of a life, at most; its orderly end looks for leaks
ENDED = 0.3       # how often one that goes on after a failure is ended at once, in an orderly way
ARMED = 40        # places that are armed at once, at most
OURS = 0.1        # how often it is the turn of our own places
PROBLEMS_MAX = 8
IDLE_MAX = 200
# Statuses after which a supervisor starts it again, and what was said before.
ENDS = {71: re.compile(r"out of memory"), 74: re.compile(r" ERROR "),
        127: re.compile(r"cannot allocate memory for thread-local data: ABORT")}  # the loader's own
# What a client may be told by a daemon that has no memory for its request.
TOLD = ("internal_error", "state_unreadable", "backup_failed", "stopping")


class Patient(loads.Patient):
    """Asks again when it was told that there is no memory for it."""

    def insist(self, method, **params):
        asked = 0
        while True:
            try:
                answer, times = super().insist(method, **params)
                return answer, times + asked
            except RpcError as e:
                if e.name not in ("internal_error", "state_unreadable") or time.monotonic() > self.load.give_up_at:
                    raise
                asked += 1
                self.load.told[e.name] += 1


class Asking(loads.Worker):
    """Asks for everything that only reads, again and again, and for a backup."""

    def __init__(self, load):
        super().__init__(load, "asking")
        self.rng, self.n = random.Random(f"{load.seed} asking"), 0

    def work(self):
        while not self.load.quiet.wait(0.02):
            tasks = self.load.some_tasks(self.rng)
            method, params = self.rng.choice(self.questions(self.rng.choice(tasks)[0]) if tasks else [("daemon/status", {})])
            try:
                self.patient.insist(method, **params)
            except RpcError as e:
                if e.name != "backup_failed":
                    raise
                self.load.told[e.name] += 1

    def questions(self, task):
        self.n += 1
        return [("daemon/status", {}), ("daemon/doctor", {}), ("models/list", {}), ("rpc/describe", {}), ("task/list", {}),
                ("task/list", {"all": True}), ("task/get", {"task": task}), ("task/get", {"task": task[:20]}), ("task/get", {"task": "@last"}),
                ("task/events", {"task": task, "after": 3}), ("daemon/backup", {"path": str(self.load.d.dir / f"backup-{self.n}")})]


class Tolerant(loads.Load):
    """Its clients ask for everything, and hold on."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.told = collections.Counter()
        self.asking = Asking(self)
        for worker in (self.pool, *self.steering, *self.watching, self.asking):
            worker.patient = Patient(self, worker.name)

    def start(self):
        super().start()
        self.asking.start()


class DaemonPart:
    def __init__(self, options):
        self.options = options
        self.rng = random.Random(f"{options.seed} daemon")
        self.d = Starved()
        self.became, self.problems = collections.Counter(), self.d.problems
        self.life_n, self.judged = 0, 0
        self.later = collections.Counter()  # of a module: how much oftener it was met by a daemon that served than not
        self.open, self.open_before, self.idle = 1, 0, 0  # failures that are left to be met
        self.life_max = LIFE_MAX

    # ---- a life ----

    def launch(self):
        self.d.control.phase(STARTING)
        self.d.launch()
        self.life_n, self.life_max = 0, self.rng.randint(1, LIFE_MAX)

    def serves(self):
        """True; False: it ended; None: neither in time."""
        deadline = time.monotonic() + HANG_S
        while time.monotonic() < deadline:
            if self.d.process.poll() is not None:
                return False
            try:
                with Client(self.d.socket, problems=self.problems, timeout_s=5) as c:
                    c.call("daemon/status")
                self.d.control.phase(SERVING)
                return True
            except RpcError as e:
                if e.name not in TOLD:
                    raise
            except (OSError, AssertionError, Closed):
                time.sleep(0.01)
        return None

    def wait_end(self):
        try:
            code = self.d.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            return None
        self.d.deaths.append(now_ms())
        self.d.process = None
        return code

    def end_life(self):
        """In an orderly way."""
        self.d.control.phase(STOPPING)
        self.d.stops.add(len(self.d.deaths))
        self.d.process.terminate()
        return self.judge_end(self.wait_end(), stopping=True)

    def settle(self):
        """What became of it after something failed; it may be gone behind this."""
        alive = self.serves()
        return "lives" if alive else self.judge_end(self.wait_end() if alive is False else None)

    def judge_end(self, code, stopping=False):
        said = self.d.new_log()
        if code is None:
            self.d.kill()
            return self.wrong("hangs", said)
        if stopping and code == 0:
            return "stops"
        if code not in ENDS or not ENDS[code].search(said):
            return self.wrong(f"exit {code}", said)
        return f"exit {code}"

    def wrong(self, became, said):
        self.d.control.take()
        last = self.d.control.failed[-1] if self.d.control.failed else None
        self.problems.append(f"{became}: {said[-1500:]}\n{last}")
        return became

    # ---- failures ----

    def left_of(self, ours):
        """(place, how) of what has not failed yet, by the module that asked: once before from then on. And how much of each that is."""
        done, found, self.open = {(f.site.hash, f.how) for f in self.d.control.failed}, collections.defaultdict(list), 0
        known = collections.Counter()
        for site in self.d.control.of("agentd"):
            module = site.calls[0].partition("+")[0]
            left = [how for how in (ONCE, FROM_THEN_ON) if (site.hash, how) not in done and not site.foreign]
            if self.options.place and f"{site.hash:016x}" not in self.options.place:
                left = []
            known[module] += 1
            self.open += len(left)
            self.d.control.arm(site.hash, NOT)
            if left and (site.ends == ours or self.options.place):
                found[module].append((site, self.rng.choice(left[:1] * 3 + left)))
        return [(module, left, len(left) / known[module]) for module, left in found.items()]

    def arm(self):
        """A part of what has not failed yet of one module, so that each gets its turns, however few places it has; which one comes first is
        different each time. Libraries before ours, which all end the process in the same way. Returns the module, and whether all are
        met at the start only."""
        found = self.left_of(self.rng.random() < OURS) or self.left_of(True) or self.left_of(False)
        if not found:
            return None, False
        module, left, _ = self.rng.choices(found, [weight for _, _, weight in found])[0]
        chosen = self.rng.sample(left, min(len(left), self.rng.randint(1, ARMED)))
        for site, how in chosen:
            self.d.control.arm(site.hash, how)
        return module, all(site.phase == STARTING for site, _ in chosen)

    def shoot(self, module, starting):
        """What was armed is met by the life that is under way, by its orderly end, or by the next life. Returns what became of the second."""
        self.d.control.shots(1)
        if self.d.process and not starting and not self.early(module):
            met = self.met(MET_S)
            self.later[module] += 1 if met else -1
            if met:
                return None
        ended = self.end_life() if self.d.process else None
        if self.d.control.fired():
            return ended
        self.launch()
        self.met(MET_S if starting else MET_EARLY_S)
        return None

    def early(self, module):
        """Whether it is mostly asked when a life begins."""
        return self.later[module] < -1 and self.rng.random() < 0.9

    def left(self):
        """What was not met in so many turns is met by chance only."""
        self.idle = 0 if self.open != self.open_before else self.idle + 1
        self.open_before = self.open
        return self.open and self.idle < IDLE_MAX

    def met(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.d.control.fired() and self.d.process.poll() is None:
            time.sleep(0.005)
        return self.d.control.fired()

    def come_on(self):
        """A life in which the tasks get on."""
        self.launch()
        self.serves()
        time.sleep(self.rng.uniform(0, 0.25))

    def one(self):
        self.d.control.shots(0)
        module, starting = self.arm()
        if self.d.process is None and not starting and not self.early(module):
            self.come_on()
        became = self.shoot(module, starting) or self.settle()
        if self.d.process and (self.life_n >= self.life_max or self.d.control.fired() and self.rng.random() < ENDED):
            became += ", then " + self.end_life()
        self.life_n += 1
        self.d.control.take()
        for failed in self.d.control.failed[self.judged:]:
            failed.became = became
            self.became[became] += 1
        self.judged = len(self.d.control.failed)
        for model in self.d.models.values():
            model.bodies.read()

    # ---- the whole ----

    def run(self, until, report):
        d = self.d
        d.starve()
        script, plan = loads.work(d.effect)
        d.rehearse({"archive_after_ms": 50}, work=plan, talk=loads.talk(d.effect))
        load = Tolerant(d, self.options.seed, 5, steering=2, watching=3)
        seen = oracle.Seen(d, load, script)
        try:
            d.control.program("agentd")
            self.launch()
            self.serves()
            load.start()
            time.sleep(1.5)
            self.end_life()
            d.control.take()
            while not until() and len(self.problems) < PROBLEMS_MAX and self.left():
                self.one()
            d.control.shots(0)
            if d.process is None or self.settle() != "lives":
                self.launch()
                self.serves()
            self.look(load, seen, report)
        finally:
            for event in (load.enough, load.quiet, load.over):
                event.set()
            wrong = d.finish(allowed_errors=(".",), keep=self.options.keep)
        report.take("daemon: ends are clear, nothing hangs, no sanitizer report, process or key is left behind", wrong)
        self.figures(load, seen)

    def look(self, load, seen, report):
        load.calm(120)
        for model in self.d.models.values():
            model.bodies.read(last=True)
        load.end()
        with Client(self.d.socket, problems=self.problems) as client:
            seen.fetch(client)
        seen.effects = self.d.effects_seen()
        doctor = json.loads(self.d.ctl("doctor", "--json").stdout)["checks"]
        oracle.judge_all(report, seen)
        report.take("the database is whole", [str(c) for c in doctor if c["name"] == "database" and not c["ok"]])

    def figures(self, load, seen):
        met, modules = {f.site.hash for f in self.d.control.failed}, collections.defaultdict(list)
        for site in self.d.control.of("agentd"):
            if not site.foreign:
                modules["ours" if site.ends else site.calls[0].partition("+")[0]].append(site.hash in met)
        print("# agentd: places that failed, of those that are known, by who asked: "
              + ", ".join(f"{name} {sum(some)}/{len(some)}" for name, some in sorted(modules.items())))
        print("# agentd: " + ", ".join(f"{k} {n}" for k, n in sorted(self.became.items())) +
              f"; {self.d.starts} starts")
        print(f"# agentd: {len(load.tasks)} tasks, {len(seen.effects)} effects, {sum(len(s.acked) for s in load.steering)} steers, "
              f"clients were told {dict(load.told)}")
