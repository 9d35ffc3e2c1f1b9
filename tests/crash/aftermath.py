"""What must hold when the power came back: a daemon is started on a state of the disk, in another boot, is asked for every event that it
has, and then the database and the files are looked at."""
import os
import pathlib
import re
import select
import shutil
import sqlite3
import subprocess

import disk as disks
import oplog
import oracle
from asking import Asking
from journal import Database, parsed
from place import poll
from recording import ENDED, patch, tree

BOOT_ID = "11111111-2222-3333-4444-555555555555"
DEADLINE_S = 60
ENDED_BY_POWER = ("reboot", "stop")


# What the daemon does with ended tasks while it is looked at: nothing, if it does not archive at all.
AS_IT_WAS, ARCHIVING, REMOVING = (604800000, 0), (0, 0), (0, 1)  # archive_after_ms, keep_ms


class Aftermath:
    """One state after the other, each at the place where its disk was recorded: manifests hold whole paths."""

    def __init__(self, d, history, build):
        self.d, self.history, self.build = d, history, build
        self.env = dict(d.make_env(), **oplog.environment(build, None, None, boot_id=BOOT_ID, sync_us=0))
        self.env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
        self.in_doubt = self.recovered = self.patches = self.archived = self.removed = 0
        self.config = d.config.read_text()
        shutil.rmtree(d.disk)

    def judge(self, state, moment, mode=AS_IT_WAS):
        """What is wrong with it."""
        disks.lay_out(state, self.d.disk)
        self.d.state_dir.mkdir(0o700, exist_ok=True)
        self.d.workspace.mkdir(exist_ok=True)
        wrong, self.told, self.late = [], [], {}
        retention = "archive_after_ms: {}, keep_ms: {}".format(*mode)
        self.d.config.write_text(re.sub(r"archive_after_ms: \d+, keep_ms: \d+", retention, self.config))
        try:
            self.live(wrong, mode)
            if not wrong:
                self.look_at_room(wrong) if mode == REMOVING else self.look(moment, wrong)
        except (ValueError, KeyError, sqlite3.Error) as e:
            wrong.append(f"{type(e).__name__}: {e}")
        finally:
            shutil.rmtree(self.d.disk)
        return wrong

    # ---- a daemon ----

    def live(self, wrong, mode):
        log = self.d.dir / "aftermath.log"
        ready, told = os.pipe()
        with open(log, "wb") as err:
            process = subprocess.Popen(
                [str(self.build / "daemon" / "agentd"), "--foreground", "--state-dir", str(self.d.state_dir), "--socket",
                 str(self.d.socket), "--config", str(self.d.config)], env=dict(self.env, AGENTD_READY_FD=str(told)), pass_fds=[told],
                stdin=subprocess.DEVNULL, stdout=err, stderr=err, cwd="/")
        os.close(told)
        try:
            if select.select([ready], [], [], DEADLINE_S)[0] and os.read(ready, 1):
                self.ask(wrong, mode)
            else:
                wrong.append("it does not serve")
            process.terminate()
            code = process.wait(DEADLINE_S)
        except (AssertionError, OSError, subprocess.TimeoutExpired, ValueError) as e:
            wrong.append(f"{type(e).__name__}: {e}")
            process.kill()
            code = process.wait()
        os.close(ready)
        text = log.read_text(errors="replace")
        if code != 0 or " ERROR " in text:
            wrong.append(f"the daemon ended with {code}: {text[-1500:]}")

    def ask(self, wrong, mode):
        with Asking(self.d.socket, DEADLINE_S) as asking:
            if mode == REMOVING:
                return poll(lambda: not self.removable(asking), DEADLINE_S, "the removal of all that has ended")
            if mode == ARCHIVING:  # a number that is given out again would mix it with what is left of another task
                asking.call("task/create", prompt="Begin.", workspace=str(self.d.workspace), key="aftermath")
            self.late = asking.read_all({id: t["seq"] for id, t in asking.tasks().items()})
            self.told = asking.told

    # ---- what it left ----

    def look(self, moment, wrong):
        h = self.history
        with Database(self.d.state_dir) as database:
            wrong += [f"quick_check: {line}" for line in database.check()]
            events = database.events(wrong)
            prompts = database.prompts(wrong)
            keys = dict(database.rows("SELECT key, result FROM keys"))
            rows = database.rows("SELECT id, seq FROM tasks")
            if database.leavings(unmarked=True):
                wrong.append("removed: what is left of a task has no mark that says so")
            self.archived += database.rows("SELECT count(*) FROM archives WHERE seq > 0")[0][0]
        there = {id.decode() for id, _ in rows}
        self.acknowledged(moment, events, there, wrong)
        self.gaps(events, rows, wrong)
        self.read_back(events, there, wrong)
        last = self.last_kept(events, there)
        tasks = {}
        for pos, (task, _, raw) in events.items():
            tasks.setdefault(task, []).append((pos, parsed(raw)))
        for task, journal in tasks.items():
            self.recovery(task, [e for p, e in journal if p <= last], [e for p, e in journal if p > last], moment, wrong)
            for _, e in journal:
                if e["kind"] == "steer.accepted" and e["steer"].encode() not in keys.get((e["key"] or "").encode(), b""):
                    wrong.append(f"{task}: the key {e['key']} of a steer is not known")
        sent = {task: body for at, task, body in h.requests if at <= moment}
        for task, body in sent.items():
            if (task in there or not h.removal) and not prompts.get(task, b"").startswith(body[:-2]):
                wrong.append(f"{task}: the prompt does not begin with what was sent before")
        self.copies(moment, wrong)
        self.patched(tasks, last, wrong)

    def acknowledged(self, moment, events, there, wrong):
        """What had left the daemon is there, but for whole tasks whose removal may have begun; what was seen to be removed is not."""
        h, last = self.history, self.history.acknowledged(moment)
        gone = {task for task in h.created if h.removal and task not in there and moment > h.present.get(task, 0)}
        self.removed += len(gone)
        lost = [pos for pos, event in h.events.items() if pos <= last and events.get(pos) != event and event[0] not in gone]
        if lost or last > max(h.events, default=0):
            wrong.append(f"acknowledged and lost: events {lost[:8]}... of {last}")
        for task in there:
            if moment >= h.gone.get(task, moment + 1):
                wrong.append(f"removed: {task} was seen to be gone, and is back")

    def read_back(self, events, there, wrong):
        """What the daemon said when it was asked for everything."""
        if self.late:
            wrong.append(f"read back: the daemon does not tell the events of {self.late}")
        before, seqs = 0, {}
        for pos, event in self.told:
            task, seq, _ = event
            if pos <= before or seq != seqs.get(task, 0) + 1:
                wrong.append(f"read back: {pos} follows {before}, seq {seq} of {task} follows {seqs.get(task, 0)}")
            if event != events.get(pos):
                wrong.append(f"read back: event {pos} is told as {event}, and is {events.get(pos)}")
            before, seqs[task] = pos, seq
        if not set(seqs) <= there:
            wrong.append(f"read back: events of {set(seqs) - there}, which are not there")

    def last_kept(self, events, there):
        """The last event that the disk held before the daemon went on: what follows is another history."""
        last = 0
        for pos, event in self.history.events.items():
            if pos in events and events[pos] == event:
                last = pos
            elif pos in events or event[0] in there or not self.history.removal:
                break
        return last

    @staticmethod
    def gaps(events, rows, wrong):
        last = {}
        for pos, (task, seq, _) in events.items():
            if seq != last.get(task, 0) + 1:
                wrong.append(f"{task}: seq goes from {last.get(task, 0)} to {seq}")
            last[task] = seq
        for task, seq in rows:
            if last.get(task.decode(), 0) != seq:
                wrong.append(f"{task}: its row is at {seq}, its events end at {last.get(task.decode())}")

    def recovery(self, task, before, after, moment, wrong):
        state = oracle.InFlight()
        for e in before:
            state.take(e)
        open_runs = set(state.runs)
        if state.must():
            first = after[0] if after else None
            if not first or first["kind"] != "recovered" or first["previous_end"] not in ENDED_BY_POWER:
                wrong.append(f"{task}: {state.must()} was in flight, and then comes {first}")
            else:
                self.recovered += 1
                missing, surplus = state.differs(first["in_flight"])
                if missing or surplus:
                    wrong.append(f"{task}: recovered lacks {missing}, invents {surplus}")
        ended = {e["run"]: e for e in after if e["kind"] == "run.ended"}
        spawned = {run for at, t, run in self.history.spawned if t == task and at <= moment}
        for run in open_runs:
            if run not in ended:
                wrong.append(f"{task} {run} was open in another boot, and is not said to have ended")
            elif ended[run]["outcome"] == "not_started" and run in spawned and not self.recorded_end(task, run):
                wrong.append(f"{task} {run} had been started, and is said not to have been")
            else:
                self.in_doubt += ended[run]["outcome"] == "in_doubt"
        mine = {e["run"] for e in after if e["kind"] == "run.started"}
        for run in self.started_now(task) - mine:
            wrong.append(f"{task} {run} of another boot was started again")

    def recorded_end(self, task, run):
        return (self.d.state_dir / "runs" / task / run / "exit").exists()

    def started_now(self, task):
        folder = self.d.state_dir / "runs" / task
        return {p.parent.name for p in folder.glob("*/start") if BOOT_ID.encode() in p.read_bytes()}

    def copies(self, moment, wrong):
        acknowledged = {path for at, path in self.history.copies if at <= moment}
        for path in acknowledged | {str(p) for p in self.d.copies.glob("copy-?")}:
            if not os.path.exists(path):
                wrong.append(f"the backup {path} was acknowledged, and is lost")
                continue
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
                try:
                    found = db.execute("PRAGMA quick_check").fetchall()
                except sqlite3.DatabaseError as e:
                    found = [(str(e),)]
            db.close()
            if found != [("ok",)]:
                wrong.append(f"the backup {path} is not whole: {found}")

    # ---- removal: no row, no block, no file ----

    def removable(self, asking):
        """What has ended, or is left of what was removed."""
        tasks = asking.tasks()
        with Database(self.d.state_dir, read_only=True) as database:
            return [t for t in tasks.values() if t["state"] in ENDED] or self.left(database)

    def left(self, database):
        there = {id.decode() for id, in database.rows("SELECT id FROM tasks")}
        files = {bytes.fromhex(p.name) for p in (self.d.state_dir / "blobs").glob("*") if len(p.name) == 64}
        folders = {p.name for p in (self.d.state_dir / "runs").glob("t*")} - there
        return [(what, n) for what, n in (("blocks, rows or marks", database.leavings()), ("files", len(files - database.named_files())),
                                          ("folders of runs", sorted(folders))) if n]

    def look_at_room(self, wrong):
        with Database(self.d.state_dir) as database:
            wrong += [f"quick_check: {line}" for line in database.check()]
            wrong += [f"removed: there are {n} {what} of tasks that are not" for what, n in self.left(database)]
            self.gaps(database.events(wrong), database.rows("SELECT id, seq FROM tasks"), wrong)
            database.prompts(wrong)

    # ---- patches: whole or absent, and known to be which ----

    def patched(self, tasks, last, wrong):
        for task, journal in tasks.items():
            calls = {e["call"]: e for _, e in journal if e["kind"] == "tool.called" and e["tool"] == "apply_patch"}
            runs = {e["run"]: e["call"] for _, e in journal if e["kind"] == "run.started" and e["call"] in calls}
            if not runs or parsed_patch(next(iter(calls.values()))) != patch(0)["arguments"]["input"]:
                continue
            ends = {e["run"]: e for _, e in journal if e["kind"] == "run.ended"}
            applied, doubted = 0, []
            for run in runs:
                end = ends.get(run)
                if not end or end["outcome"] in ("in_doubt", "killed"):
                    doubted.append((run, end and end["outcome"], end and end.get("detail")))
                elif end["outcome"] == "done" and end.get("exit_code") == 0:
                    applied += 1
            self.patches += len(runs)
            workspace = pathlib.Path(next(e["workspace"] for _, e in journal if e["kind"] == "task.created"))
            found = {str(p.relative_to(workspace)): p.read_text(errors="replace") for p in workspace.rglob("*")
                     if p.is_file() and not (p.name.startswith(".") and ".agentd-" in p.name)}
            if doubted:
                wrong.append(f"{task}: it is not known whether a patch was applied: {doubted}")
            elif found != tree(applied):
                wrong.append(f"{task}: {applied} patches are said to be applied, and there is {differs(found, tree(applied))}")


def parsed_patch(call):
    return call["arguments"].get("input")


def differs(found, wanted):
    return {k: (found.get(k), wanted.get(k)) for k in sorted(set(found) | set(wanted)) if found.get(k) != wanted.get(k)}
