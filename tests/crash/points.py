"""Where a daemon dies: at a named failpoint of the sources, or after a while. All of it from a seed."""
import random
import re

from place import ROOT

# The world does not write blobs yet (images stay in the runs' folders), and nobody makes backups here.
# Contents of files are taken into the archive only where there are some.
NOT_REACHED = re.compile(r"store\.(blob|backup)\.")
RUNNER = re.compile(r"runner\.")
# Those that the load meets only now and then: the first time counts. The others: any of the first so many.
OFTEN = {"store.before_commit": 60, "store.after_commit": 60, "world.commit": 60, "world.committed": 60, "world.released": 60,
         "pump.published": 60, "pump.replied": 30, "world.model_sent": 12, "world.model_done": 10, "world.run_ended": 12,
         "world.run_gone": 12, "runs.locked": 10, "runs.spec_written": 10, "runs.bound": 10, "runs.spawned": 10, "world.recover_task": 4}


def named():
    names = set()
    for path in sorted((ROOT / "daemon").rglob("*.c")):
        names |= set(re.findall(r'\bFAILPOINT\("([^"]+)"\)', path.read_text()))
    return sorted(names)


def of_daemon():
    return [n for n in named() if not RUNNER.match(n) and not NOT_REACHED.match(n)]


def of_runner():
    return [n for n in named() if RUNNER.match(n)]


# An orderly stop copies the log back for sure; under load that is rare.
AT_STOP = {"store.after_checkpoint"}


def moments(seed, kills, supervised):
    """(how, failpoint or None, seconds), `kills` of them; how: failpoint | after (so many seconds) | stop (told to stop after so many
    seconds, dead at the failpoint or a moment later) | supervised."""
    rng = random.Random(seed)
    names, plan = [], []
    for i in range(kills - supervised):
        if i % 2 == 0:
            if not names:
                names = of_daemon()
                rng.shuffle(names)
            name = names.pop()
            point = f"{name}:{1 if name in AT_STOP else rng.randint(1, OFTEN.get(name, 2))}"
            plan.append(("stop" if name in AT_STOP else "failpoint", point, rng.uniform(0.05, 0.4)))
        elif rng.random() < 0.1:
            plan.append(("stop", None, rng.uniform(0.05, 0.4)))
        else:
            # A third of them while it is starting.
            plan.append(("after", None, rng.uniform(0.0, 0.04) if rng.random() < 0.33 else rng.uniform(0.03, 0.5)))
    return plan + [("supervised", None, rng.uniform(0.1, 0.5)) for _ in range(supervised)]
