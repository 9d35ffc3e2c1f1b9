"""What must hold when the last death is over. Each rule is a function that yields what is wrong; it sees the journals, the requests
that the model servers got, the effects that the tools left behind, and what clients were told. It asks the daemon for the journals
only, and believes what others saw of it."""
import collections
import datetime
import json

RULES = []


def rule(text):
    def add(function):
        RULES.append((text, function))
        return function
    return add


def at_ms(event):
    return round(datetime.datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp() * 1000)


class Seen:
    """Everything that the rules look at."""

    def __init__(self, d, load, script):
        self.d, self.load, self.script = d, load, script
        self.journals = {}
        self.effects = d.effects_seen()

    def fetch(self, client):
        for task in self.load.tasks:
            self.journals[task] = client.journal(task)
        self.listed = {t["id"] for t in self.load.listed(client)}

    def of(self, task, kind):
        return [e for e in self.journals[task] if e["kind"] == kind]

    def tasks(self, model=None):
        return [t for t, (m, _) in self.load.tasks.items() if model in (None, m)]

    def bodies(self, task):
        return self.d.models[self.load.tasks[task][0]].bodies

    def acked(self):
        return [s for steering in self.load.steering for s in steering.acked]


# ---- steers ----

@rule("no acknowledged steer is lost: each is accepted once, under the id and seq that were acknowledged")
def accepted(s):
    for steer in s.acked():
        found = [e for e in s.of(steer["task"], "steer.accepted") if e["key"] == steer["key"]]
        if [(e["steer"], e["seq"], e["text"]) for e in found] != [(steer["id"], steer["seq"], steer["text"])]:
            yield f"{steer}: {found}"


@rule("each steer is delivered once and seen once, in this order")
def receipts(s):
    for task in s.tasks():
        seqs = collections.defaultdict(list)
        for kind in ("accepted", "delivered", "seen"):
            for e in s.of(task, f"steer.{kind}"):
                seqs[e["steer"]].append((e["seq"], kind))
        for steer, found in seqs.items():
            if [kind for _, kind in sorted(found)] != ["accepted", "delivered", "seen"]:
                yield f"{task} {steer}: {sorted(found)}"


@rule("the text of each steer is in exactly one item of the last request")
def in_one_item(s):
    for steer in s.acked():
        texts = ["".join(p.get("text", "") for p in i["content"]) for i in s.bodies(steer["task"]).items(steer["task"])
                 if i.get("role") == "user"]
        if texts.count(steer["text"]) != 1:
            yield f"{steer}: {texts.count(steer['text'])} times"


# ---- tools ----

@rule("no tool was started twice")
def started_once(s):
    for effect, n in collections.Counter(s.effects).items():
        if n > 1:
            yield f"{effect}: {n} times"
    # A call that is carried out by two runs would have one label twice.
    for (task, label), n in collections.Counter((t, label) for t, _, label in s.effects).items():
        if n > 1:
            yield f"{task} {label}: by {n} runs"


@rule("every run ends once, as done, and its effects are there")
def runs_done(s):
    there = set(s.effects)
    for task in s.tasks():
        started = [e["run"] for e in s.of(task, "run.started")]
        ended = [e["run"] for e in s.of(task, "run.ended")]
        if sorted(started) != sorted(ended) or len(set(started)) != len(started):
            yield f"{task}: started {started}, ended {ended}"
        for e in s.of(task, "run.ended"):
            if e["outcome"] != "done":
                yield f"{task}: {e}"
    for task in s.tasks("work"):
        for label, run in s.script.labels.items():
            if (task, f"r{run}", label) not in there:
                yield f"{task} r{run} has not done {label}"


@rule("each call is answered once, with the output of its tool")
def answered(s):
    for task in s.tasks():
        called = [e["call"] for e in s.of(task, "tool.called")]
        results = [e["call"] for e in s.of(task, "tool.result")]
        if sorted(called) != sorted(results) or len(set(called)) != len(called):
            yield f"{task}: called {called}, answered {results}"
        items = s.bodies(task).items(task)
        asked = [i["call_id"] for i in items if i.get("type") == "function_call"]
        told = [i["call_id"] for i in items if i.get("type") == "function_call_output"]
        if sorted(asked) != sorted(told) or len(set(asked)) != len(asked):
            yield f"{task}: calls in the request {asked}, outputs {told}"
        yield from told_once(s, task, items)


def told_once(s, task, items):
    """A steer lets a call be answered before its process has said anything: then a note tells of its end, and output is not told."""
    told = "".join(str(i["output"]) for i in items if i.get("type") == "function_call_output")
    early = {e["call"] for e in s.of(task, "tool.result") if "session_id" in e["output"] or "session" in e["output"]}
    calls = {e["run"]: e["call"] for e in s.of(task, "run.started")}
    for label, run in s.script.labels.items() if task in s.tasks("work") else ():
        n = told.count(f"did {label}\n")
        if n > 1 or n == 0 and label.startswith("e") and calls.get(f"r{run}") not in early:
            yield f"{task}: the output of {label} is told {n} times"


@rule("input is written once, and in order")
def inputs(s):
    for task in s.tasks("work"):
        for run in s.script.readers:
            path = s.load.tasks[task][1] / f"lines-{run}"
            text = path.read_text() if path.exists() else None
            if text != "one\ntwo\nend\n":
                yield f"{path}: {text!r}"


@rule("patches are applied once, in whole")
def patches(s):
    wanted = "".join(f"line {n}\n" for n in range(s.script.patches))
    for task in s.tasks("work"):
        path = s.load.tasks[task][1] / "book"
        text = path.read_text() if path.exists() else None
        if text != wanted:
            yield f"{path}: {text!r}"


# ---- model ----

@rule("one response is accepted a step, and attempts count up")
def responses(s):
    for task in s.tasks():
        attempts, ended = collections.defaultdict(list), collections.Counter()
        for e in s.of(task, "step.started"):
            attempts[e["step"]].append(e["attempt"])
        for e in s.of(task, "step.ended"):
            ended[e["step"]] += 1
        for step, numbers in attempts.items():
            if numbers != list(range(1, len(numbers) + 1)) or ended[step] != 1:
                reasons = [e["reason"] for e in s.of(task, "step.retry") if e["step"] == step]
                yield f"{task} step {step}: attempts {numbers}, ended {ended[step]} times; {reasons}"


@rule("every request of a task is a prefix of those behind it, byte by byte")
def prefixes(s):
    for model in s.d.models.values():
        yield from model.bodies.problems


# ---- events ----

@rule("watchers saw events without gaps and duplicates")
def gapless(s):
    yield from s.load.watch_problems
    for task, events in s.journals.items():
        if [e["seq"] for e in events] != list(range(1, len(events) + 1)):
            yield f"{task}: {[e['seq'] for e in events]}"


@rule("what watchers saw before a death is what the journal holds after it")
def as_journal(s):
    from load import checksum
    sums = {task: [checksum(e) for e in events] for task, events in s.journals.items()}
    for watching in s.load.watching:
        for task, seen in watching.sums.items():
            wanted = sums.get(task, [])
            if seen != (wanted if watching.everything else wanted[:len(seen)]):
                yield f"{watching.name} saw {len(seen)} events of {task}, and others than the {len(wanted)} of the journal"
        if watching.everything and set(watching.sums) != set(sums):
            yield f"{watching.name} saw {len(watching.sums)} tasks, not {len(sums)}"


class InFlight:
    """What is in flight, as the events say."""

    def __init__(self):
        self.model, self.runs, self.inputs = None, set(), set()

    def take(self, e):
        kind = e["kind"]
        if kind == "step.started":
            self.model = str(e["step"])
        elif kind in ("step.ended", "step.retry"):
            self.model = None
        elif kind == "run.started":
            self.runs.add(e["run"])
        elif kind == "run.ended":
            self.runs.discard(e["run"])
        elif kind == "tool.called" and e["tool"] == "write_stdin" and e["arguments"].get("chars"):
            self.inputs.add(e["call"])
        elif kind == "tool.result":
            self.inputs.discard(e["call"])

    def must(self):
        return {("model", self.model)} - {("model", None)} | {("run", r) for r in self.runs}

    def differs(self, told):
        told = {(f["what"], f["id"]) for f in told}
        surplus = told - self.must() - {("input", c) for c in self.inputs}
        return self.must() - told, surplus


def lives(events, deaths):
    """The events of a task by the life of the daemon that wrote them."""
    found, deaths = [[] for _ in range(len(deaths) + 1)], list(deaths)
    life = 0
    for e in events:
        while life < len(deaths) and at_ms(e) > deaths[life]:
            life += 1
        found[life].append(e)
    return found


@rule("a task with something in flight gets one `recovered` after each death, first of all, that says what became of it")
def recovered(s):
    wrote = {life for events in s.journals.values() for life, written in enumerate(lives(events, s.d.deaths)) if written}
    for task, events in s.journals.items():
        state = InFlight()
        for life, written in enumerate(lives(events, s.d.deaths)):
            wanted = bool(state.must()) and life > 0
            for i, e in enumerate(written):
                if e["kind"] == "recovered" and (i > 0 or not wanted and not state.inputs):
                    yield f"{task} seq {e['seq']}: recovered, and nothing was in flight"
            if written and wanted and written[0]["kind"] != "recovered":
                yield f"{task} seq {written[0]['seq']}: {state.must()} was in flight, and no recovered followed"
            if written and written[0]["kind"] == "recovered":
                yield from judge(task, state, written, previous_ends(life, wrote, s.d.stops))
            for e in written:
                state.take(e)


def previous_ends(life, wrote, stops):
    """A life that died before its first commit has left nothing: then the end of the one before it is told."""
    death = life - 1
    while death > 0 and death not in wrote and death not in stops:
        death -= 1
    return ("crash", "stop") if death in stops else ("crash",)


ALLOWED = {"model": {"resent"}, "run": {"ended", "reattached", "started"}, "input": {"resent"}}


def judge(task, state, written, ends):
    e = written[0]
    missing, surplus = state.differs(e["in_flight"])
    if missing or surplus or e["previous_end"] not in ends:
        yield f"{task} seq {e['seq']}: lacks {missing}, invents {surplus}, {e['previous_end']}"
    for f in e["in_flight"]:
        if f["became"] not in ALLOWED[f["what"]]:
            yield f"{task} seq {e['seq']}: {f}"
        at_once = any(o["kind"] == "run.ended" and o["run"] == f["id"] and o["at"] == e["at"] for o in written)
        if f["what"] == "run" and f["became"] == "ended" and not at_once:
            yield f"{task} seq {e['seq']}: {f}, and no end follows"


# ---- the whole ----

@rule("every task comes to its end, completed")
def completed(s):
    for task in s.tasks():
        moves = s.of(task, "task.state")
        if not moves or moves[-1]["to"] != "completed":
            yield f"{task} ({s.load.tasks[task][0]}): {[json.dumps(e) for e in s.journals[task][-6:]]}"


@rule("each task that was acknowledged is there, and no other")
def tasks(s):
    if s.listed != set(s.load.tasks):
        yield f"only listed {s.listed - set(s.load.tasks)}, only acknowledged {set(s.load.tasks) - s.listed}"


@rule("clients: no answer, frame or thread went wrong")
def clients(s):
    yield from s.load.problems


class Report:
    """TAP, so that tests/run counts each rule."""

    def __init__(self):
        self.n = self.failed = 0

    def take(self, name, wrong):
        self.n += 1
        self.failed += bool(wrong)
        for text in wrong[:12]:
            print("#   " + text[:1500].replace("\n", "\n#   "))
        if len(wrong) > 12:
            print(f"#   and {len(wrong) - 12} more")
        print(f"{'not ' if wrong else ''}ok {self.n} - {name}", flush=True)

    def end(self):
        print(f"1..{self.n}", flush=True)
        return 1 if self.failed else 0


def judge_all(report, seen):
    for text, function in RULES:
        report.take(text, list(function(seen)))


def look_and_judge(d, load, seen, report):
    """A daemon serves, and nothing happens to it any more: every task comes to its end; then everything is looked at."""
    from place import Client
    load.calm(120)
    for model in d.models.values():
        model.bodies.read(last=True)
    load.end()
    with Client(d.socket, problems=d.problems) as client:
        seen.fetch(client)
    seen.effects = d.effects_seen()
    doctor = json.loads(d.ctl("doctor", "--json").stdout)["checks"]
    judge_all(report, seen)
    report.take("the database is whole", [str(c) for c in doctor if c["name"] == "database" and not c["ok"]])
