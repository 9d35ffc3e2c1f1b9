"""Recordings of a recovery, for tests/crash/powerloss: the start of a daemon over what a crash has left, cut short by another crash now and
then. Only the recoveries are looked at (`windows`), so the power goes in the middle of them."""
import os
import random
import shutil
import signal
import time

import disk as disks
import oplog
from history import History
from place import poll, processes_of
from recording import Busy, Day, Take, Watching, finish, oplog_base, start

AGAIN = "22222222-3333-4444-5555-666666666666"  # the boot after the first loss of power
SETTLED_S = 0.4


def killed(d, seed):
    """In the same boot: runners live on, queued steers and timers wait, some tools were killed in the middle of a patch."""
    day = Day(d, seed)
    windows = []
    for i in range(4):
        oplog.wait_growth(d.log, day.rng.randrange(400000, 1600000), 1.5)
        if i % 2:
            cut_patch(d)
        begin = d.log.used
        d.kill()
        recover(d, day.load, day.rng)
        windows.append((begin, d.log.used, 1))
    day.finish()
    return Take(day.disk, day.load, windows)


def recover(d, load, rng):
    """Starts until one start was not cut short."""
    for _ in range(rng.choice((0, 1, 1, 2))):
        d.launch()
        oplog.wait_growth(d.log, rng.randrange(1, 150000), 2)
        d.kill()
    start(d, load)
    oplog.wait_growth(d.log, 1 << 40, SETTLED_S)


def cut_patch(d, timeout_s=1.0):
    """Kills the next tool that writes a file of the workspace, before its next change."""
    at, deadline = d.log.used, time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for r in d.log.records(at):
            at = r.end
            if r.program == "t" and r.op in (oplog.CREATE, oplog.WRITE, oplog.RENAME):
                return d.log.die(r.pid)
        time.sleep(0.001)


def rebooted(d, seed):
    """In another boot, over what the disk may hold: half of the times the power went while a patch was applied."""
    day = Day(d, seed)
    oplog.wait_growth(d.log, day.rng.randrange(2500000, 6000000), 3)
    d.kill()
    day.load.over.set()
    day.load.quiet.set()
    day.load.give_up_at = 0
    for worker in [day.watcher, *day.busy]:
        worker.join(60)
    end_runs(d)
    day.load.problems.clear()  # clients that were cut off
    before = lose_power(d, day)
    begin_anew(d, day.load)
    disk = oplog_base(d)
    names = names_below(d.disk)
    recover(d, day.load, day.rng)
    window = (0, d.log.used, 1)
    watcher, busy = Watching(day.load), Busy(day.load, f"{seed} again")
    watcher.start()
    busy.start()
    oplog.wait_growth(d.log, 1500000, 1.5)
    finish(d, day.load, [watcher, busy], day.patient)
    return Take(disk, day.load, [window], {"before": before, "names": names})


def end_runs(d):
    """What a loss of power ends, too."""
    def none_left():
        for pid in processes_of(d.state_dir / "runs"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not processes_of(d.state_dir / "runs")
    poll(none_left, 30, "the end of all runs")


def lose_power(d, day):
    """Puts a state of the disk in the place of what is there; what had left before."""
    records = list(d.log.records())
    patching = [r.end for r in records if r.program == "t" and r.op != oplog.SEND]
    third = [r.end for r in records[len(records) // 3:]]
    moment = day.rng.choice(patching if patching and day.rng.random() < 0.5 else third)
    disk = day.disk
    for r in records:
        if r.end <= moment:
            disk.take(r)
    choice = day.rng.choice((disks.Choice(), disks.Nothing(), disks.Some(day.rng.getrandbits(32), ordered=True),
                             disks.Some(day.rng.getrandbits(32))))
    state, before = disk.state(choice), History(d.log, d.state_dir).until(moment)
    shutil.rmtree(d.disk)
    disks.lay_out(state, d.disk)
    for folder in (d.state_dir, d.workspace, d.copies):
        folder.mkdir(0o700, exist_ok=True)
    return before


def begin_anew(d, load):
    """A log and a boot of its own."""
    d.log.close()
    d.log = oplog.Log(d.log.path)
    d.env["AGENTD_IO_BOOT_ID"] = d.bare_env["AGENTD_IO_BOOT_ID"] = AGAIN
    load.quiet.clear()
    load.over.clear()
    load.give_up_at = float("inf")


def names_below(root):
    """{number: (name, number of its folder)}"""
    return {os.stat(os.path.join(folder, name)).st_ino: (name, os.stat(folder).st_ino)
            for folder, folders, files in os.walk(root) for name in folders + files}
