"""What was really done, and what had left the daemon at each moment: read from the log and the last database. What clients
were told is the witness for tasks that are removed by then."""
import bisect
import json
import re

import oplog
from journal import Database, parsed

NEVER = 1 << 62  # the pos of what was told and is in no journal
EVENT = re.compile(rb'^\{"jsonrpc":"2\.0","method":"event","params":\{"subscription":\d+,("seq":(\d+),"pos":(\d+),"task":"(\w+)",.*\})\}$')


def event_of(line):
    """(pos, (task, seq, json as it is stored)) of a notification, or None."""
    match = EVENT.match(line)
    return match and (int(match[3]), (match[4].decode(), int(match[2]), b"{" + match[1]))


def whole(post):
    head, _, body = post.partition(b"\r\n\r\n")
    size = re.search(rb"(?i)content-length: *(\d+)", head)
    return size and len(body) >= int(size[1])


class Before:
    """What had left before the log begins: another log, up to a moment."""

    def __init__(self, pos=0, requests=(), spawned=(), copies=()):
        self.pos, self.requests, self.spawned, self.copies = pos, list(requests), list(spawned), list(copies)


class History:
    """`moments`, `poses`: from this moment of the log on, all events up to that pos have to be there. `requests`: (moment, task, bytes)
    that were sent to the model. `spawned`: (moment, task, run). `present`: up to this moment a task was surely there; `gone`: from this
    one on it surely was not (of tasks that are removed). `before`: see Before; `listing`: what asked for the tasks meanwhile, if some are
    removed; `names`: {number of a file or folder: (name, number of its folder)} of what was there before the log begins."""

    def __init__(self, log, state_dir, before=None, listing=None, names=None):
        wrong, before = [], before or Before()
        with Database(state_dir) as database:
            self.events = database.events(wrong)
        assert not wrong, wrong
        self.present, self.gone = (listing.present, listing.gone) if listing else ({}, {})
        self.removal = listing is not None
        self.lines, self.deleted, posts, spawned = [], [], [], []
        self._scan(log, dict(names or {}), posts, spawned)
        self._told()
        self._index()
        self.must, self.copies, self.replies = [(0, before.pos)], [(0, path) for _, path in before.copies], 0
        self.requests, self.spawned = [(0, *r[1:]) for r in before.requests], [(0, *s[1:]) for s in before.spawned]
        for moment, line in self.lines:
            self._line(moment, line)
        for moment, task, run in spawned:
            self.spawned.append((moment, task, run))
            self.must.append((moment, self.where.get((task, run), NEVER)))
        for moment, task, run in self.deleted:
            self.must.append((moment, self.where.get((task, run, "end"), 0)))
        self._requests(posts, before.pos)
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

    def until(self, moment):
        """All that had left by then, as what had left before another log."""
        left = [[e for e in them if e[0] <= moment] for them in (self.requests, self.spawned, self.copies)]
        return Before(self.acknowledged(moment), *left)

    # ---- the journal ----

    def _told(self):
        """Events that clients were told of, of tasks that are not in the last database."""
        for _, line in self.lines:
            event = event_of(line)
            if event and self.events.setdefault(*event) != event[1]:
                raise ValueError(f"event {event[0]} was told as {event[1]}, and the journal has {self.events[event[0]]}")
        self.events = dict(sorted(self.events.items()))
        if list(self.events) != list(range(1, len(self.events) + 1)):
            raise ValueError("not every event is in the last database or was told to somebody")

    def _index(self):
        self.where, self.created = {}, set()
        for pos, (task, seq, raw) in self.events.items():
            e = parsed(raw)
            self.where[task, seq] = pos
            self.created.add(task)
            if e["kind"] == "steer.accepted":
                self.where.setdefault((e["steer"], seq), pos)  # the first, if several tasks have one of this name and seq
            elif e["kind"] == "run.started":
                self.where[task, e["run"]] = pos
            elif e["kind"] == "run.ended":
                self.where[task, e["run"], "end"] = pos
            elif e["kind"] == "step.started":
                self.where.setdefault((task, "steps"), []).append(pos)

    # ---- the log ----

    def _scan(self, log, names, posts, spawned):
        """Takes apart what left, what was started, and which folders of runs the daemon deleted."""
        rest, open_posts = {}, {}
        for r in log.records():
            if r.op == oplog.CREATE:
                names[r.file2] = (r.name, r.file)
            elif r.op == oplog.SPAWN and "/runs/" in r.name:
                spawned.append((r.end, *r.name.split("/")[-2:]))
            elif r.op == oplog.UNLINK and r.program == "d" and r.name in ("start", "exit", "out"):
                run, parent = names.get(r.file, ("", 0))
                self.deleted.append((r.end, names.get(parent, ("", 0))[0], run))
            elif r.op == oplog.SEND and r.program == "d":
                at = (r.pid, r.file)
                if r.data.startswith(b"POST "):
                    open_posts[at] = [r.end, b""]
                if at in open_posts:
                    open_posts[at][1] += r.data
                    if whole(open_posts[at][1]):
                        posts.append(open_posts.pop(at))
                    continue
                *lines, rest[at] = (rest.get(at, b"") + r.data).split(b"\n")
                self.lines += [(r.end, line[max(0, line.rfind(b'{"jsonrpc"')):]) for line in lines]

    def _requests(self, posts, begun):
        """The n-th request of a task rests on its n-th attempt."""
        steps = {task: found for (task, what, *_), found in self.where.items() if what == "steps"}
        sent = {task: sum(pos <= begun for pos in found) for task, found in steps.items()}
        for moment, post in posts:
            body = post.partition(b"\r\n\r\n")[2]
            task = re.search(rb'"prompt_cache_key":"(t[0-9a-z]+)"', body)[1].decode()
            self.requests.append((moment, task, body))
            sent[task] = sent.get(task, 0) + 1
            found = steps.get(task, [])
            self.must.append((moment, found[sent[task] - 1] if sent[task] <= len(found) else NEVER))

    def _line(self, moment, line):
        event = event_of(line)
        if event:
            self.must.append((moment, event[0]))
            return
        try:
            message = json.loads(line)
        except ValueError:
            return  # for a runner, or cut by a death
        if message.get("method") == "end":  # the removal of a task that was watched
            task = message["params"]["task"]
            self.gone[task] = min(moment, self.gone.get(task, moment))
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
