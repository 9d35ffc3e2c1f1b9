"""Allocations of agentd-runner and agentd-tool fail, place by place, in runs of every sort. What may become of a run: it is done, and then
its effect is there; it was not started, and then it is not; it is in doubt. It is never started twice, and its task goes on."""
import base64
import collections
import random
import re

from load import READER, sh, stdin
from place import RpcError, poll
from starving import FROM_THEN_ON, NOT, ONCE, Starved

WAIT_S = 60
FILES = 4  # of a patch
TASKS_OF_CLIENT = 40
CLEAR = re.compile(r"exited with code 0|out of memory|cut short|no such file to update|could not be started|in doubt")
IMAGE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def patch(section):
    text = "*** Begin Patch\n" + "".join(section.format(i) for i in range(FILES)) + "*** End Patch"
    return {"tool": "apply_patch", "arguments": {"input": text}}


def scripts(effect):
    one, end = f"'{effect}' e1", {"say": "Noted."}
    return {name: {"steps": [{"calls": calls} for calls in steps] + [end]} for name, steps in {
        "short": [[sh(one)]],
        "long": [[sh(one + "\n# " + "x" * 110000)]],
        "tty": [[{"tool": "exec_command", "arguments": {"cmd": one, "tty": True, "yield_time_ms": 20000}}]],
        "reader": [[sh(one + "; " + READER.format(run=1), 100)], [stdin(1, "one\n", 50)], [stdin(1, "end\n", 20000)]],
        "patched": [[patch("*** Add File: f{}\n+line 0\n")], [patch("*** Update File: f{}\n@@\n line 0\n+line 1\n")]],
        "image": [[{"tool": "view_image", "arguments": {"path": "dot.png"}}]]}.items()}


class RunnerPart:
    def __init__(self, options):
        self.options, self.rng = options, random.Random(f"{options.seed} runner")
        self.d, self.n, self.trials, self.outcomes = Starved(), 0, [], collections.Counter()

    def trial(self, model, failing=None):
        """A task whose first run meets it."""
        if self.n % TASKS_OF_CLIENT == 0:
            self.client = self.d.client()
        self.n += 1
        folder = self.d.workspace / str(self.n)
        folder.mkdir()
        (folder / "dot.png").write_bytes(IMAGE)
        task = self.client.create(folder, prompt=f"Task {self.n}.", model=model, name=f"task-{self.n}")
        self.client.wait_state(task, "completed", "failed", timeout_s=WAIT_S)
        poll(lambda: sorted(e["run"] for e in self.client.of(task, "run.started")) ==
             sorted(e["run"] for e in self.client.of(task, "run.ended")), WAIT_S, f"the end of the runs of {task}")
        self.d.control.take()
        self.judge(model, task, folder, failing)

    def judge(self, model, task, folder, failing):
        wrong, of = [], lambda kind: self.client.of(task, kind)
        ended = of("run.ended")
        effects = sum(t == task for t, _, _ in self.d.effects_seen())
        wanted = {"done": (0, 1), "not_started": (0,), "in_doubt": (0, 1), "killed": (0, 1)}
        for e in ended:
            self.outcomes[e["outcome"] + (f" {e['exit_code']}" if e["exit_code"] else "")] += failing is not None
            if e["outcome"] != "done" and not e["detail"] or failing is None and (e["outcome"], e["exit_code"]) != ("done", 0):
                wrong.append(f"{e}")
        first = ended[0]
        if model in ("patched", "image"):
            wrong += self.judge_tool(of("tool.result")) + (self.judge_patch(folder, ended) if model == "patched" else [])
        elif effects not in ((1,) if (first["outcome"], first["exit_code"]) == ("done", 0) else wanted[first["outcome"]]):
            wrong.append(f"{effects} effects, and {first}")
        if of("task.state")[-1]["to"] != "completed":
            wrong.append(f"{of('task.state')[-1]}")
        if sorted(e["call"] for e in of("tool.called")) != sorted(e["call"] for e in of("tool.result")):
            wrong.append("not each call is answered once")
        if wrong:
            self.d.problems.append(f"{model} {task}: " + "; ".join(wrong) + f"\n{self.d.control.failed[-1] if failing else 'nothing failed'}")

    @staticmethod
    def judge_tool(results):
        """Who fails says so: that there was no memory, or what became of it then."""
        return [f"{r}" for r in results if r["output"] and "exit" in r["output"] and not CLEAR.search(r["output"])]

    @staticmethod
    def judge_patch(folder, ended):
        """Whole or absent, as its exit says."""
        texts = [f.read_text() if f.exists() else "" for f in (folder / f"f{i}" for i in range(FILES))]
        told = [e["outcome"] == "done" and e["exit_code"] == 0 or "now applied in whole" in (e["detail"] or "") for e in ended]
        wanted = "" if not told[0] else "line 0\nline 1\n" if told[1] else "line 0\n"
        extra = [p.name for p in folder.iterdir() if p.name not in {"dot.png", *(f"f{i}" for i in range(FILES))}]
        return ([f"{texts} after {told}"] if set(texts) != {wanted} else []) + ([f"left behind {extra}"] if extra else [])

    def find(self, models):
        """Which places each script comes by."""
        for phase, model in enumerate(models):
            self.d.control.phase(phase)
            self.trial(model)
        self.d.control.take()

    def targets(self):
        found = [(s, how) for s in self.d.control.sites.values() for how in (ONCE, FROM_THEN_ON)
                 if s.program in ("agentd-runner", "agentd-tool") and not s.foreign]
        self.rng.shuffle(found)
        self.total = len({s.hash for s, _ in found})
        return found

    def run(self, until, report):
        d, models = self.d, list(scripts("x"))
        d.starve()
        d.rehearse(**scripts(d.effect))
        try:
            d.launch()
            d.wait_ready()
            self.find(models)
            for site, how in self.targets():
                if until() or len(d.problems) > 6:
                    break
                d.control.program(site.program)
                d.control.arm(site.hash, how)
                d.control.shots(1)
                self.trial(models[site.phase], site)
                d.control.shots(0)
                d.control.arm(site.hash, NOT)
        except (AssertionError, OSError, RpcError) as e:
            d.problems.append(f"{type(e).__name__}: {e}\n{d.control.failed[-1] if d.control.failed else ''}")
        finally:
            wrong = d.finish(keep=self.options.keep)
        report.take("runners and tools: each run ends once, as it really did, a patch is whole or absent, and every task goes on", wrong)
        failed = {f.site.hash for f in d.control.failed}
        print(f"# agentd-runner, agentd-tool: {len(failed)} of {self.total} places failed in {self.n} tasks; runs became "
              + ", ".join(f"{k} {n}" for k, n in sorted(self.outcomes.items())))
