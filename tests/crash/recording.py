"""What is recorded for tests/crash/powerloss: daemons on one disk, one after the other, under load of every sort, with the interposer in
front of them and of their runners. Nothing of it depends on when something happens, so each recording is another one; its log is kept
whole. Recoveries and what becomes of ended tasks have files of their own: recovering.py, archiving.py."""
import random
import threading
import time

import load as loads  # noqa: E402
import oplog  # noqa: E402
from place import BUILD, Client, Killed, RpcError, poll, processes_of  # noqa: E402

ENDED = ("completed", "cancelled", "failed")
SYNC_US = 400  # as of a quick disk, whatever is below
LARGE = 160000  # above what a row holds: its content goes to a file


def tree(n):
    """The files of the patched folder after n patches. Each of them adds, changes, moves and deletes, some in folders that it makes."""
    if n == 0:
        return {}
    files = {"book": "".join(f"line {i}\n" for i in range(n)), f"deep/in/side-{n}": f"side {n}\n", f"new-{n}/leaf": f"leaf {n}\n"}
    files.update({f"new-{i}/leaf": f"leaf {i}\n" for i in range(1, n)})
    return files


def patch(n):
    """From tree(n) to tree(n + 1)."""
    lines = ["*** Begin Patch"]
    if n == 0:
        lines += ["*** Add File: book", "+line 0", "*** Add File: deep/in/side-1", "+side 1"]
    else:
        lines += ["*** Update File: book", "@@", f" line {n - 1}", f"+line {n}", f"*** Add File: deep/in/side-{n + 1}", f"+side {n + 1}",
                  f"*** Delete File: deep/in/side-{n}"]
    lines += [f"*** Add File: new-{n + 1}/leaf", f"+leaf {n + 1}", "*** End Patch"]
    return {"tool": "apply_patch", "arguments": {"input": "\n".join(lines)}}


def patching(steps):
    return {"steps": [{"say": "Patch {k}.", "calls": [patch(n)]} for n in range(steps)]}


def long(script):
    """Steers that come after the end have to be answered as well."""
    return {"steps": script["steps"] + [{"say": "That is so."}] * 300}


class Take:
    """A recording. `base`: the disk at its beginning. `windows`: the parts of the log that matter, [(moment, moment, how much)]; none: all.
    `history`: what its history has to know besides the log. `retention`: whether ended tasks go while its states are looked at."""

    def __init__(self, base, load, windows=(), history=None, retention=False):
        self.base, self.load, self.windows, self.history, self.retention = base, load, windows, history or {}, retention


class Recorded(Killed):
    """A place whose state and work folders are below `disk`, the recorded root."""

    def __init__(self, folder=None):
        super().__init__()
        self.disk = self.dir / "disk"
        self.state_dir, self.workspace, self.copies = self.disk / "state", self.disk / "work", self.disk / "copies"
        for path in (self.disk, self.workspace, self.copies):
            path.mkdir()
        self.env = self.make_env()
        self.log = oplog.Log((folder or self.dir) / "log")
        self.env.update(oplog.environment(BUILD, self.log, self.disk, sync_us=SYNC_US),
                        ASAN_OPTIONS=self.env["ASAN_OPTIONS"] + ":verify_asan_link_order=0")
        self.bare_env = dict(self.env)

    def kill(self):
        """Between two changes."""
        self.log.kill(self.process)
        self.process = None
        self.deaths.append(0)


class Busy(threading.Thread):
    """A client that steers, small and large, and holds on."""

    def __init__(self, load, seed, large=(), slow=1):
        super().__init__(daemon=True)
        self.slow = slow
        self.load, self.rng, self.large, self.n = load, random.Random(seed), large, 0
        self.patient = loads.Patient(load, f"busy-{seed}")

    def run(self):
        try:
            while not self.load.quiet.wait(self.rng.uniform(0.01, 0.08) * self.slow):
                tasks = self.load.some_tasks(self.rng)
                if tasks:
                    self.steer(*self.rng.choice(tasks))
        except Exception as e:  # noqa: BLE001
            self.load.problems.append(f"{self.name}: {type(e).__name__}: {e}")
        finally:
            self.patient.close()

    def steer(self, task, model):
        self.n += 1
        key = f"{self.patient.name}-{self.n}"
        size = self.rng.choice(self.large) if self.large else 0
        text = f"<{key}> goes this way" + "".join(self.rng.choices("abcdefghijklmnop ", k=min(size, 4096))) * (size // 4096)
        try:
            self.patient.insist("task/steer", task=task, text=text, key=key,
                                delivery=self.rng.choice(loads.Steering.DELIVERIES["talk" if model == "talk" else "work"]))
        except RpcError as e:
            if e.name not in ("limit_reached", "task_not_found"):
                raise


def start(d, load):
    d.launch()
    d.wait_ready()
    load.give_up_at = time.monotonic() + 60


class Day:
    """A day of work that has begun: tools with effects, patches, input, steers."""

    def __init__(self, d, seed, models=("work", "patch", "talk", "work", "patch")):
        self.d, self.rng = d, random.Random(seed)
        script, plan = loads.work(d.effect)
        d.rehearse(work=long(plan), talk=long(loads.talk(d.effect)), patch=long(patching(14)))
        self.load = loads.Load(d, seed, 0, steering=0, watching=0)
        folders = [(model, d.workspace / str(i)) for i, model in enumerate(models)]
        for _, folder in folders:
            folder.mkdir()
        self.disk = oplog_base(d)
        start(d, self.load)
        self.watcher = Watching(self.load)
        self.patient = loads.Patient(self.load, "creating")
        self.busy = [Busy(self.load, f"{seed} 0"), Busy(self.load, f"{seed} 1"), Busy(self.load, f"{seed} 2", (LARGE, 20000), slow=12)]
        for worker in [self.watcher, *self.busy]:
            worker.start()
        for n, (model, folder) in enumerate(folders):
            params = dict(prompt=f"Task {n}.", workspace=str(folder), model=model, name=f"task-{n}", key=f"create-{n}")
            self.load.add(self.patient.insist("task/create", **params)[0]["task"], model, folder)
            if n == 2:
                oplog.wait_growth(d.log, 400000, 5)

    def finish(self):
        finish(self.d, self.load, [self.watcher, *self.busy], self.patient)


def everyday(d, seed):
    """The daemon is killed, stopped and started again; there are backups."""
    day = Day(d, seed)
    for i, how in enumerate(("kill", "stop", "kill", "backup", "kill")):
        oplog.wait_growth(d.log, day.rng.randrange(1000000, 4000000), 2)
        if how == "backup":
            day.patient.insist("daemon/backup", path=str(d.copies / f"copy-{i}"))
            continue
        d.kill() if how == "kill" else d.stop()
        start(d, day.load)
    day.finish()
    return Take(day.disk, day.load)


def bulky(d, seed):
    """Little but large steers, until the write-ahead log has been copied back and begun anew."""
    d.rehearse(talk={"steps": [{"say": "Step {k}."} for _ in range(400)]})
    load = loads.Load(d, seed, 0, steering=0, watching=0)
    (d.workspace / "0").mkdir()
    disk = oplog_base(d)
    start(d, load)
    watcher = Watching(load)
    watcher.start()
    patient = loads.Patient(load, "creating")
    params = dict(prompt="Read.", workspace=str(d.workspace / "0"), model="talk", key="c", keep_open=True)
    load.add(patient.insist("task/create", **params)[0]["task"], "talk", d.workspace / "0")
    busy = [Busy(load, f"{seed} {i}", (120000, 60000), slow=0.2) for i in range(2)]
    for worker in busy:
        worker.start()
    wal = d.state_dir / "agentd.db-wal"
    poll(lambda: wal.exists() and wal.stat().st_size > 4100 * 4120, 60, "a long write-ahead log")
    load.quiet.set()
    for worker in busy:
        worker.join(60)
    database = d.state_dir / "agentd.db"
    poll(lambda: database.stat().st_size > 2000000, 60, "the log's copying back")
    for n in range(12):
        patient.insist("task/steer", task=next(iter(load.tasks)), text=f"after it, {n}", key=f"after-{n}", delivery="next")
    finish(d, load, [watcher], patient)
    return Take(disk, load)


def oplog_base(d):
    from disk import Disk
    return Disk(d.disk)


def finish(d, load, workers, patient):
    load.enough.set()
    load.quiet.set()
    load.give_up_at = time.monotonic() + 60
    for worker in workers[1:]:
        worker.join(60)
    oplog.wait_growth(d.log, 1 << 40, 1.0, lambda: quiet(d))
    with Client(d.socket, problems=d.problems) as client:
        poll(lambda: all(ended(client, t) for t in load.listed(client)) and not processes_of(d.state_dir / "runs"), 30, "the end")
    load.over.set()
    workers[0].join(30)
    patient.close()
    d.stop()


def ended(client, task):
    """Also what an ended task has left running."""
    try:
        client.call("task/cancel", task=task["id"])
    except RpcError as e:
        if e.name not in ("bad_state", "task_not_found"):  # there is nothing to end
            raise
    return task["state"] in ENDED


def quiet(d):
    before = d.log.used
    time.sleep(0.2)
    return d.log.used == before


class Watching(threading.Thread):
    """Follows everything, so that every event leaves the daemon as soon as it may."""

    def __init__(self, load):
        super().__init__(daemon=True)
        self.load, self.pos, self.seen = load, 0, 0
        self.patient = loads.Patient(load, "watching")

    def run(self):
        while not self.load.over.is_set():
            try:
                link = self.patient.connected()
                link.subscribe(after_pos=self.pos)
                while not self.load.over.is_set() and not link.closed:
                    self.load.over.wait(0.02)
                    if link.events:
                        self.pos = link.events[-1]["pos"]
            except loads.LOST:
                pass
            self.patient.close()
