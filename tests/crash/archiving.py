"""A recording of what becomes of ended tasks, for tests/crash/powerloss: they are moved into blocks, and after a while removed; their
files and the folders of their runs are deleted; some are taken up again while that goes on. The daemon is killed, stopped and started in
between."""
import random
import threading
import time

import load as loads
import oplog
from place import RpcError, poll
from recording import Take, Watching, finish, oplog_base, start

AFTER_MS, KEEP_MS = 100, 1500
TASKS = 36


class Listing(threading.Thread):
    """Asks again and again which tasks there are. `present`: up to that moment of the log a task was there; `gone`: from that one on it
    was not."""

    def __init__(self, load):
        super().__init__(name="listing", daemon=True)
        self.load, self.present, self.gone = load, {}, {}
        self.patient = loads.Patient(load, "listing")

    def run(self):
        log = self.load.d.log
        try:
            while not self.load.over.wait(0.01):
                before, tasks, after = log.used, [], None
                while True:
                    page = self.patient.insist("task/list", all=True, **({"after": after} if after else {}))[0]
                    tasks += [t["id"] for t in page["tasks"]]
                    after = page["next"]
                    if not after:
                        break
                for task in set(self.present) - set(tasks):
                    self.gone.setdefault(task, log.used)
                self.present.update({task: before for task in tasks})
        except Exception as e:  # noqa: BLE001
            if not self.load.over.is_set():
                self.load.problems.append(f"{self.name}: {type(e).__name__}: {e}")
        finally:
            self.patient.close()


def call(cmd, size=4000):
    return {"tool": "exec_command", "arguments": {"cmd": cmd, "yield_time_ms": 20000, "max_output_tokens": size}}


SCRIPTS = {"short": [call("echo {k}")], "wide": [call("seq 1 40000", 60000), call("echo {k}")]}


def archiving(d, seed):
    """Of each sort of content: in a row, in a file that goes into a block, in one that stays."""
    rng = random.Random(seed)
    scripts = {name: {"steps": [{"say": "Step {k}.", "calls": calls}] + [{"say": "That is all."}] * 40} for name, calls in SCRIPTS.items()}
    d.rehearse(limits={"archive_after_ms": AFTER_MS, "keep_ms": KEEP_MS}, **scripts)
    load = loads.Load(d, seed, 0, steering=0, watching=0)
    disk = oplog_base(d)
    start(d, load)
    watcher, listing = Watching(load), Listing(load)
    watcher.start()
    listing.start()
    patient = loads.Patient(load, "creating")
    again = {TASKS // 6: "kill", TASKS // 3: "stop", TASKS // 2: "kill", 2 * TASKS // 3: "backup", 5 * TASKS // 6: "kill"}
    begun = 0
    for n in range(TASKS):
        if n == TASKS // 3:
            begun = d.log.used
        create(d, load, patient, rng, n)
        take_up(load, patient, rng, n)
        how = again.get(n)
        if how == "backup":
            patient.insist("daemon/backup", path=str(d.copies / "copy-1"))
        elif how:
            d.kill() if how == "kill" else d.stop()
            start(d, load)
        time.sleep(rng.uniform(0.02, 0.1))
    poll(lambda: len(listing.gone) > TASKS * 5 // 6, 60, "the removal of tasks")
    finish(d, load, [watcher], patient)
    listing.join(30)
    removals = [(listing.present[task], end, 6) for task, end in listing.gone.items()]
    return Take(disk, load, [(begun, d.log.used, 1), *removals], history={"listing": listing}, retention=True)


def create(d, load, patient, rng, n):
    """Prompts of which some are in a file, and some stay there when they are archived."""
    folder = d.workspace / str(n)
    folder.mkdir()
    text = "word " * (209710 if n % 12 == 5 else rng.choice((1, 1, 1, 1, 200, 30000)))
    model = rng.choice(("short", "short", "wide"))
    task = patient.insist("task/create", prompt=text, workspace=str(folder), model=model, key=f"create-{n}")[0]["task"]
    load.add(task, model, folder)
    try:
        patient.connected().subscribe(task=task, after_seq=0)  # its end is told
    except (RpcError, *loads.LOST):
        pass  # the daemon stops


def take_up(load, patient, rng, n):
    """Those that ended go on, or are gone meanwhile."""
    for i, task in enumerate(rng.sample(list(load.tasks), min(3, len(load.tasks)))):
        try:
            text = f"<{n}.{i}> goes on" + " and on" * rng.choice((1, 1, 1, 1, 1, 1, 1, 22000))
            patient.insist("task/steer", task=task, text=text, key=f"on-{n}-{i}", delivery="next")
        except RpcError as e:
            if e.name not in ("task_not_found", "bad_state"):
                raise
