"""The load: scripts with every sort of tool, a pool of tasks, clients that steer and clients that watch. Each holds on through every
death of the daemon: it connects again and says again, under the same key, what was not acknowledged."""
import json
import random
import threading
import time
import zlib

from place import Client, Closed, RpcError, poll

LOST = (OSError, Closed)
CALL_TIMEOUT_S = 60


# ---- scripts ----

def sh(cmd, yield_ms=20000):
    return {"tool": "exec_command", "arguments": {"cmd": cmd, "yield_time_ms": yield_ms}}


def stdin(run, chars, yield_ms):
    return {"tool": "write_stdin", "arguments": {"session_id": run, "chars": chars, "yield_time_ms": yield_ms}}


def wait(**conditions):
    return {"tool": "wait", "arguments": conditions}


def patch(n):
    head = "*** Begin Patch\n*** "
    if n == 0:
        return {"tool": "apply_patch", "arguments": {"input": head + "Add File: book\n+line 0\n*** End Patch"}}
    return {"tool": "apply_patch", "arguments": {"input": head + f"Update File: book\n@@\n line {n - 1}\n+line {n}\n*** End Patch"}}


READER = "while read -r l; do echo \"$l\" >> lines-{run}; [ \"$l\" = end ] && break; done; echo over"


class Script:
    """What a task does, and what must be left of it. Labels of effects are unique within a task."""

    def __init__(self, effect):
        self.effect, self.steps, self.runs, self.labels, self.patches, self.readers = effect, [], 0, {}, 0, []

    def label(self):
        """The next run's own effect: (run, label)."""
        self.runs += 1
        label = f"e{self.runs}"
        self.labels[label] = self.runs
        return self.runs, f"'{self.effect}' {label}"

    def step(self, *calls, **more):
        self.steps.append(dict({"say": "Step {k}.", "calls": list(calls), "delay_ms": 8}, **more))

    def one(self):
        self.step(sh(self.label()[1]))

    def parallel(self):
        self.step(*[sh(f"{self.label()[1]}; sleep 0.{i}") for i in range(3)], pace_ms=4)

    def slow(self):
        run, effect = self.label()
        self.step(sh(f"{effect}; sleep 0.7; echo late", 120))
        self.step(stdin(run, "", 20000), sh(self.label()[1]))

    def reader(self):
        run, effect = self.label()
        self.readers.append(run)
        self.step(sh(effect + "; " + READER.format(run=run), 100))
        self.step(stdin(run, "one\n", 60))
        self.step(stdin(run, "two\n", 30), sh(self.label()[1]))
        self.step(stdin(run, "end\n", 20000))

    def background(self):
        run, effect = self.label()
        later = f"b{run}"
        self.labels[later] = run
        self.step(sh(f"{effect}; (sleep 0.4; '{self.effect}' {later}) > later-{run} 2>&1 &", 20000))

    def waiting(self):
        """For a file that goes on changing while the wait begins, and for a moment."""
        run, effect = self.label()
        self.step(sh(f"{effect}; (for i in 1 2 3 4 5 6; do sleep 0.1; echo $i >> flag-{run}; done) > /dev/null 2>&1 &", 20000))
        self.step(wait(path=f"flag-{run}", seconds=3), wait(seconds=0.2))

    def patched(self):
        calls = [patch(self.patches)]
        self.runs += 1
        self.patches += 1
        self.step(*calls, sh(self.label()[1]))

    def large(self):
        self.step(sh(f"{self.label()[1]}; seq 1 30000"), pace_ms=2)

    def faulty(self, fault):
        self.steps.append({"fault": dict(fault, times=1)})

    def done(self, pace_ms=0):
        self.steps.append({"say": "All is done, and nothing is left of it to be done.", "repeat": 1500, "pace_ms": pace_ms})
        return {"steps": self.steps}


def work(effect):
    """Its runs have numbers that are known beforehand, since nothing cuts its responses."""
    s = Script(effect)
    s.one()
    s.patched()
    s.parallel()
    s.faulty({"status": 503})
    s.reader()
    s.slow()
    s.patched()
    s.background()
    s.waiting()
    s.faulty({"cut_after_bytes": 400})
    s.large()
    s.patched()
    s.parallel()
    s.one()
    return s, s.done()


def talk(effect):
    """Long responses that steers cut. A label holds its step's number."""
    steps = []
    for _ in range(4):
        steps.append({"say": "I think about it for a while, step {k}, and say what I think of it. " * 3, "pace_ms": 15,
                      "calls": [sh(f"'{effect}' t{{k}}; sleep 0.1")], "repeat": 2})
        steps.append({"fault": {"stall_ms": 30, "times": 1}})
        steps.append({"calls": [sh(f"'{effect}' t{{k}}"), sh(f"'{effect}' u{{k}}; sleep 0.2", 100)]})
    steps.append({"say": "This is all that there is to say of it, and it is said slowly.", "pace_ms": 5, "repeat": 1500})
    return {"steps": steps}


# ---- a client that holds on ----

class Patient:
    def __init__(self, load, name):
        self.load, self.name, self.link = load, name, None

    def connected(self):
        while self.link is None or self.link.closed:
            self.close()
            try:
                self.link = Client(self.load.d.socket, name=self.name, problems=self.load.d.problems, timeout_s=CALL_TIMEOUT_S)
            except (*LOST, AssertionError):
                self.link = None
                if time.monotonic() > self.load.give_up_at:
                    raise
                time.sleep(0.01)
        return self.link

    def close(self):
        if self.link:
            self.link.close()
        self.link = None

    def insist(self, method, **params):
        """The answer, however often it has to be asked; and how often that was."""
        asked = 0
        while True:
            asked += 1
            link = self.connected()
            try:
                return link.call(method, **params), asked
            except LOST:
                if time.monotonic() > self.load.give_up_at:
                    raise
            except RpcError as e:
                if e.name not in ("stopping", "disk_full") or time.monotonic() > self.load.give_up_at:
                    raise
                time.sleep(0.01)


class Worker(threading.Thread):
    """A thread whose failure is a finding."""

    def __init__(self, load, name):
        super().__init__(name=name, daemon=True)
        self.load, self.patient = load, Patient(load, name)

    def run(self):
        try:
            self.work()
        except Exception as e:  # noqa: BLE001
            self.load.problems.append(f"{self.name}: {type(e).__name__}: {e}")
        finally:
            self.patient.close()


class Steering(Worker):
    DELIVERIES = {"work": ("next", "next", "queue"), "talk": ("now", "now", "next", "queue")}

    def __init__(self, load, number):
        super().__init__(load, f"steering-{number}")
        self.rng = random.Random(f"{load.seed} {number}")
        self.acked, self.resent, self.repeated, self.n = [], 0, 0, 0

    def work(self):
        while not self.load.quiet.wait(self.rng.uniform(0.02, 0.25)):
            tasks = self.load.some_tasks(self.rng)
            if tasks:
                self.steer(*self.rng.choice(tasks))

    def steer(self, task, model):
        self.n += 1
        key = f"{self.name}-{self.n}"
        params = dict(task=task, text=f"<{key}> goes this way", key=key, delivery=self.rng.choice(self.DELIVERIES[model]))
        try:
            answer, asked = self.patient.insist("task/steer", **params)
        except RpcError as e:
            if e.name not in ("limit_reached",):
                raise
            return
        self.resent += asked > 1
        self.acked.append(dict(params, model=model, **{"id": answer["steer"], "seq": answer["seq"]}))
        if self.rng.random() < 0.15:
            self.repeated += 1
            again, _ = self.patient.insist("task/steer", **params)
            if again != answer:
                self.load.problems.append(f"the steer {key} was answered {answer}, and {again} when it was sent again")


class Watching(Worker):
    """Keeps a checksum of each event; what comes after a death must go on where it was cut."""

    def __init__(self, load, number, everything):
        super().__init__(load, f"watching-{number}")
        self.number, self.everything = number, everything
        self.rng = random.Random(f"{load.seed} watching {number}")
        self.sums, self.last, self.pos, self.sessions = {}, {}, 0, 0

    def work(self):
        while not self.load.over.is_set():
            task = None
            if not self.everything:
                tasks = self.load.some_tasks(self.rng)
                if not tasks:
                    self.load.over.wait(0.05)
                    continue
                task = self.rng.choice(tasks)[0]
            self.session(task, self.rng.uniform(0.2, 3.0))

    def session(self, task, seconds):
        """One connection, until it is cut or we have seen enough."""
        self.sessions += 1
        end, taken = time.monotonic() + seconds, 0
        try:
            link = self.patient.connected()
            if task:
                link.subscribe(task=task, after_seq=self.last.get(task, 0), deltas=True)
            else:
                link.subscribe(after_pos=self.pos, deltas=self.rng.random() < 0.3)
            while time.monotonic() < end and not (self.load.over.is_set() and not self.everything):
                try:
                    link.wait_for(lambda: len(link.events) > taken, 0.1)
                except AssertionError:
                    pass  # nothing came
                taken = self.take(link, taken)
        except LOST:
            if self.patient.link:
                self.take(self.patient.link, taken)
        self.patient.close()

    def take(self, link, taken):
        events = link.events[taken:]
        for event in events:
            task, seq = event["task"], event["seq"]
            if seq != self.last.get(task, 0) + 1:
                self.load.watch_problems.append(f"{self.name}: {task} goes from {self.last.get(task, 0)} to {seq}")
            if event["pos"] <= self.pos and self.everything:
                self.load.watch_problems.append(f"{self.name}: pos goes from {self.pos} to {event['pos']}")
            self.last[task], self.pos = seq, event["pos"]
            self.sums.setdefault(task, []).append(checksum(event))
            if self.number == 0:
                self.load.learn(event)
        return taken + len(events)


def checksum(event):
    return zlib.crc32(json.dumps({k: v for k, v in event.items() if k != "subscription"}, sort_keys=True).encode())


class Pool(Worker):
    """Keeps so many tasks at work."""

    def __init__(self, load, size):
        super().__init__(load, "pool")
        self.size, self.n, self.rng = size, 0, random.Random(f"{load.seed} pool")

    def work(self):
        while not self.load.enough.wait(0.02):
            if self.load.live() < self.size:
                self.create()

    def create(self):
        self.n += 1
        folder = self.load.d.workspace / str(self.n)
        folder.mkdir()
        model = "talk" if self.n % 4 == 0 else "work"
        params = dict(prompt=f"Task {self.n}.", workspace=str(folder), model=model, name=f"task-{self.n}", key=f"create-{self.n}")
        answer, _ = self.patient.insist("task/create", **params)
        if self.rng.random() < 0.2 and self.patient.insist("task/create", **params)[0] != answer:
            self.load.problems.append(f"create-{self.n} was answered in two ways")
        self.load.add(answer["task"], model, folder)


class Load:
    def __init__(self, d, seed, tasks, steering, watching):
        self.d, self.seed, self.lock = d, seed, threading.Lock()
        self.problems, self.watch_problems = [], []
        self.tasks, self.states = {}, {}  # task -> (model, folder); task -> its last state
        self.enough, self.quiet, self.over = threading.Event(), threading.Event(), threading.Event()
        self.give_up_at = float("inf")
        self.pool = Pool(self, tasks)
        self.steering = [Steering(self, i) for i in range(steering)]
        self.watching = [Watching(self, i, everything=i < 2) for i in range(watching)]

    def start(self):
        for worker in [self.pool, *self.steering, *self.watching]:
            worker.start()

    def add(self, task, model, folder):
        with self.lock:
            self.tasks[task] = (model, folder)

    def learn(self, event):
        if event["kind"] == "task.state":
            with self.lock:
                self.states[event["task"]] = event["to"]

    def live(self):
        with self.lock:
            return sum(self.states.get(t) != "completed" for t in self.tasks)

    def some_tasks(self, rng):
        """Those at work; now and then also the last ones that are not any more."""
        with self.lock:
            names = list(self.tasks)
            live = [t for t in names if self.states.get(t) != "completed"]
            chosen = names[-12:] if rng.random() < 0.25 or not live else live
            return [(t, self.tasks[t][0]) for t in chosen]

    def calm(self, timeout_s):
        """No new tasks and steers; then every task has to come to its end."""
        self.enough.set()
        self.quiet.set()
        self.give_up_at = time.monotonic() + timeout_s
        for worker in [self.pool, *self.steering]:
            worker.join(timeout_s)
        try:
            with Client(self.d.socket, problems=self.d.problems) as client:
                poll(lambda: self.live() == 0 and all(t["state"] == "completed" for t in self.listed(client)), timeout_s,
                     "the end of every task")
                seqs = {t["id"]: t["seq"] for t in self.listed(client)}
            for watching in self.watching:
                poll(lambda: not watching.everything or all(watching.last.get(t, 0) >= n for t, n in seqs.items()), 30, "the last event")
        except AssertionError:
            pass  # the oracle says which

    @staticmethod
    def listed(client):
        tasks, after = [], None
        while True:
            page = client.call("task/list", all=True, **({"after": after} if after else {}))
            tasks, after = tasks + page["tasks"], page["next"]
            if not after:
                return tasks

    def end(self):
        self.over.set()
        for worker in self.watching:
            worker.join(30)
