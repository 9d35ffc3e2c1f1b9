"""What must hold when the power came back: a daemon is started on a state of the disk, in another boot, and then the database and the files are
looked at. `History` is what was really done and what had left the daemon at each moment: it is read from the log and the last database."""
import bisect
import hashlib
import json
import os
import pathlib
import re
import select
import shutil
import socket
import sqlite3
import subprocess
import time

import disk as disks
import oplog
import oracle
from recording import patch, tree

BOOT_ID = "11111111-2222-3333-4444-555555555555"
DEADLINE_S = 60
NEVER = 1 << 62  # the pos of what was told and is in no journal
ENDED_BY_POWER = ("reboot", "stop")


class Database:
    """The rows of a state folder that nobody uses any more."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.db = sqlite3.connect(f"file:{self.folder / 'agentd.db'}?mode=rwc", uri=True)
        self.db.text_factory = bytes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.db.close()

    def rows(self, sql, *args):
        return self.db.execute(sql, args).fetchall()

    def check(self):
        return [r[0] for r in self.rows("PRAGMA quick_check") if r[0] != b"ok"]

    def content(self, body, digest, size, wrong, what):
        """A row's own bytes, or those of its file, which have to be there with its hash."""
        if digest is None:
            return body if isinstance(body, bytes) else body.encode()
        path = self.folder / "blobs" / digest.hex()
        data = path.read_bytes() if path.exists() else None
        if data is None or len(data) != size or hashlib.blake2b(data, digest_size=32).digest() != digest:
            wrong.append(f"the content of {what} is not whole in blobs/{digest.hex()}: {data and len(data)} of {size} bytes")
            return b""
        return data

    def events(self, wrong):
        """{pos: (task, seq, json)}"""
        found = {}
        for pos, task, seq, body, digest, size in self.rows(
                "SELECT e.pos, t.id, e.seq, e.body, e.hash, e.bytes FROM events e JOIN tasks t ON t.n = e.task ORDER BY e.pos"):
            found[pos] = (task.decode(), seq, self.content(body, digest, size, wrong, f"event {pos}"))
        return found

    def prompts(self, wrong):
        """{task: bytes of the prompt of its last epoch}"""
        parts = {}
        for task, epoch, idx, body, digest, size in self.rows(
                "SELECT t.id, c.epoch, c.idx, c.body, c.hash, c.bytes FROM context c JOIN tasks t ON t.n = c.task ORDER BY t.id, c.epoch, c.idx"):
            part = self.content(body, digest, size, wrong, f"context {epoch}/{idx}")
            known = parts.setdefault(task.decode(), (epoch, []))
            if known[0] != epoch:
                known = parts[task.decode()] = (epoch, [])
            if len(known[1]) != idx:
                wrong.append(f"{task}: element {idx} of its prompt follows {len(known[1])} others")
            known[1].append(part)
        return {task: p[0] + b",".join(p[1:]) for task, (_, p) in parts.items()}


def parsed(raw, memory={}):
    if raw not in memory:
        if len(memory) > 100000:
            memory.clear()
        memory[raw] = json.loads(raw)
    return memory[raw]


class History:
    """`moments`, `poses`: from this moment of the log on, all events up to that pos have to be there. `requests`: (moment, task, bytes)
    that were sent to the model. `spawned`: (moment, task, run)."""

    def __init__(self, log, state_dir):
        wrong = []
        with Database(state_dir) as database:
            self.events = database.events(wrong)
        assert not wrong, wrong
        self.where = {}
        for pos, (task, seq, raw) in self.events.items():
            e = parsed(raw)
            self.where[task, seq] = pos
            if e["kind"] == "steer.accepted":
                self.where.setdefault((e["steer"], seq), pos)  # the first, if several tasks have one of this name and seq
            elif e["kind"] == "run.started":
                self.where[task, e["run"]] = pos
            elif e["kind"] == "step.started":
                self.where.setdefault((task, "steps"), []).append(pos)
        self.must, self.requests, self.spawned, self.copies, self.replies, self.lines = [], [], [], [], 0, 0
        self._read(log)
        self.must.sort()
        self.moments, self.poses, most = [], [], 0
        for moment, pos in self.must:
            most = max(most, pos)
            self.moments.append(moment)
            self.poses.append(most)

    def acknowledged(self, moment):
        """The last pos that somebody was told of."""
        at = bisect.bisect_right(self.moments, moment)
        return self.poses[at - 1] if at else 0

    def _read(self, log):
        rest, posts, sent = {}, {}, {}
        for r in log.records():
            if r.op == oplog.SPAWN and "/runs/" in r.name:
                task, run = r.name.split("/")[-2:]
                self.spawned.append((r.end, task, run))
                self.must.append((r.end, self.where.get((task, run), NEVER)))
            elif r.op == oplog.SEND and r.program == "d":
                at = (r.pid, r.file)
                if r.data.startswith(b"POST "):
                    posts[at] = [r.end, b""]
                if at in posts:
                    posts[at][1] += r.data
                    if self._request(posts[at], sent):
                        del posts[at]
                    continue
                *lines, rest[at] = (rest.get(at, b"") + r.data).split(b"\n")
                for line in lines:
                    self._line(r.end, line[max(0, line.rfind(b'{"jsonrpc"')):])

    def _request(self, post, sent):
        head, _, body = post[1].partition(b"\r\n\r\n")
        size = re.search(rb"(?i)content-length: *(\d+)", head)
        if not size or len(body) < int(size[1]):
            return False
        task = re.search(rb'"prompt_cache_key":"(t[0-9a-z]+)"', body)[1].decode()
        self.requests.append((post[0], task, body))
        sent[task] = sent.get(task, 0) + 1
        steps = self.where.get((task, "steps"), [])
        self.must.append((post[0], steps[sent[task] - 1] if sent[task] <= len(steps) else NEVER))
        return True

    def _line(self, moment, line):
        try:
            message = json.loads(line)
        except ValueError:
            return  # for a runner, or cut by a death
        self.lines += 1
        if message.get("method") == "event":
            self.must.append((moment, message["params"]["pos"]))
            return
        result = message.get("result")
        if not isinstance(result, dict):
            return
        if "steer" in result:
            self.replies += 1
            self.must.append((moment, self.where.get((result["steer"], result["seq"]), NEVER)))
        elif set(result) >= {"path", "bytes"}:
            self.copies.append((moment, result["path"]))
        elif isinstance(result.get("task"), str) and set(result) == {"task", "seq"}:
            self.replies += 1
            self.must.append((moment, self.where.get((result["task"], 1), NEVER)))


class Aftermath:
    """One state after the other, each at the place where its disk was recorded: manifests hold whole paths."""

    def __init__(self, d, history, build):
        self.d, self.history, self.build = d, history, build
        self.env = dict(d.make_env(), **oplog.environment(build, None, None, boot_id=BOOT_ID, sync_us=0))
        self.env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
        self.in_doubt = self.recovered = self.patches = 0
        shutil.rmtree(d.disk)

    def judge(self, state, moment):
        """What is wrong with it."""
        disks.lay_out(state, self.d.disk)
        self.d.state_dir.mkdir(0o700, exist_ok=True)
        self.d.workspace.mkdir(exist_ok=True)
        wrong = []
        try:
            self.live(wrong)
            if not wrong:
                self.look(moment, wrong)
        except (ValueError, KeyError, sqlite3.Error) as e:
            wrong.append(f"{type(e).__name__}: {e}")
        finally:
            shutil.rmtree(self.d.disk)
        return wrong

    # ---- a daemon ----

    def live(self, wrong):
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
                self.ask(wrong)
            else:
                wrong.append("it does not serve")
            process.terminate()
            code = process.wait(DEADLINE_S)
        except (OSError, subprocess.TimeoutExpired, ValueError) as e:
            wrong.append(f"{type(e).__name__}: {e}")
            process.kill()
            code = process.wait()
        os.close(ready)
        text = log.read_text(errors="replace")
        if code != 0 or " ERROR " in text:
            wrong.append(f"the daemon ended with {code}: {text[-1500:]}")

    def ask(self, wrong):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(DEADLINE_S)
            s.connect(str(self.d.socket))
            for id, (method, params) in enumerate([("initialize", {"protocol": 1, "client": {"name": "aftermath", "version": "1"}}),
                                                   ("task/list", {"all": True})]):
                s.sendall(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n")
                data = b""
                while not data.endswith(b"\n"):
                    got = s.recv(1 << 20)
                    if not got:
                        raise ValueError("the daemon hung up")
                    data += got
                reply = json.loads(data)
                if "result" not in reply:
                    wrong.append(f"{method}: {reply}")

    # ---- what it left ----

    def look(self, moment, wrong):
        h = self.history
        with Database(self.d.state_dir) as database:
            wrong += [f"quick_check: {line}" for line in database.check()]
            events = database.events(wrong)
            prompts = database.prompts(wrong)
            keys = dict(database.rows("SELECT key, result FROM keys"))
            rows = database.rows("SELECT id, seq FROM tasks")
        last = self.last_kept(events)
        if last < h.acknowledged(moment):
            wrong.append(f"acknowledged and lost: events {last + 1} to {h.acknowledged(moment)}")
        self.gaps(events, rows, wrong)
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
            if not prompts.get(task, b"").startswith(body[:-2]):
                wrong.append(f"{task}: the prompt does not begin with what was sent before")
        self.copies(moment, wrong)
        self.patched(tasks, last, wrong)

    def last_kept(self, events):
        """The last event that the disk held before the daemon went on: what follows is another history."""
        known = self.history.events
        last = 0
        while last + 1 in events and events[last + 1] == known.get(last + 1):
            last += 1
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
