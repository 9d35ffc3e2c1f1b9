"""A place whose programs can be starved of memory: failmalloc.c is preloaded into them, and this is the other end of its control file.
`Places` knows every place (a hash of the calls) from which an allocation was seen, and which of them were made to fail."""
import collections
import mmap
import os
import pathlib
import re
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "crash"))

from place import BUILD, Killed  # noqa: E402

LIBRARY = BUILD / "tests" / "faults" / "libfailmalloc.so"
PLACES_AT, PLACES_MAX = 72, 65536
NOT, ONCE, FROM_THEN_ON = range(3)
HOW = {"once": ONCE, "from-then-on": FROM_THEN_ON}
STARTING, SERVING, STOPPING = range(3)  # phases of the daemon, in which a place was first seen
PROGRAMS = {"agentd": "daemon/agentd", "agentctl": "client/agentctl", "agentd-runner": "daemon/runner/agentd-runner",
            "agentd-tool": "daemon/runner/agentd-tool"}
# Libraries of libraries, with which we have no dealings: what they lose when they begin without memory is theirs.
STRANGERS = ("libcrypto.so", "libssl.so", "libgnutls.so", "libtasn1.so", "libp11-kit.so", "ld-linux")
# What a sanitizer asks for itself: it ends on NULL.
SANITIZER = re.compile(r"lib[aut]san\.")
# Of ours: they end the process, whoever asks.
ENDS = re.compile(r"mem_\w+$")


class Names:
    """What function an address of ours is in."""

    def __init__(self):
        self.tables = {}

    def table(self, module):
        if module not in self.tables:
            path = BUILD / PROGRAMS[module] if module in PROGRAMS else None
            lines = subprocess.run(["nm", "-n", str(path)], capture_output=True, text=True).stdout.splitlines() if path else []
            self.tables[module] = [(int(a, 16), n) for a, kind, n in (line.split() for line in lines if len(line.split()) == 3)
                                   if kind in "tT"]
        return self.tables[module]

    def of(self, call):
        """`module+offset` as `function` where it is known."""
        module, _, offset = call.rpartition("+")
        table, at = self.table(module), int(offset, 16) - 1  # a call's address is behind it
        low, high = 0, len(table)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if table[middle][0] <= at else (low, middle)
        return table[low - 1][1] if low else call


NAMES = Names()


class Site:
    def __init__(self, program, hash, phase, calls):
        self.program, self.hash, self.phase, self.calls = program, hash, phase, calls
        self.foreign = any(SANITIZER.match(c) for c in calls[:4])
        self.ends = bool(ENDS.match(NAMES.of(calls[0]))) if calls else False

    def __str__(self):
        return f"{self.hash:016x} {' < '.join(NAMES.of(c) for c in self.calls)}"


class Failed:
    def __init__(self, site, how, pid):
        self.site, self.how, self.pid, self.at, self.became = site, how, pid, time.strftime("%T"), None

    def __str__(self):
        how = "from then on" if self.how == FROM_THEN_ON else "once"
        return f"{self.site.hash:016x} failed {how} at {self.at}, {self.became}:" + "".join(
            f"\n    {NAMES.of(c)}  {c}" for c in self.site.calls)


class Control:
    """Arms what fails next. One for each place of work."""

    def __init__(self, folder):
        self.path, self.log = folder / "failmalloc", folder / "failmalloc.log"
        self.path.write_bytes(bytes(PLACES_AT + 16 * PLACES_MAX))
        self.log.touch()
        self.suppressions = folder / "suppressions"
        self.suppressions.write_text("".join(f"leak:{name}\n" for name in STRANGERS))
        self.file = open(self.path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 0)
        self.read = 0
        self.sites, self.failed = {}, []  # hash -> Site; what failed, in order
        self.lock = threading.Lock()

    def environment(self, env):
        """What a program needs to be starved; sanitizers insist on being first otherwise."""
        return dict(env, LD_PRELOAD=str(LIBRARY), FAILMALLOC=f"{self.path},{self.log}",
                    ASAN_OPTIONS=env["ASAN_OPTIONS"] + ":verify_asan_link_order=0",
                    LSAN_OPTIONS=env["LSAN_OPTIONS"] + f":suppressions={self.suppressions}")

    def program(self, name):
        self.map[0:32] = name.encode().ljust(32, b"\0")

    def slot(self, hash):
        """Where the place stands."""
        at = hash % PLACES_MAX
        while struct.unpack_from("<Q", self.map, PLACES_AT + 16 * at)[0] != hash:
            at = (at + 1) % PLACES_MAX
        return PLACES_AT + 16 * at

    def arm(self, hash, how):
        struct.pack_into("<Q", self.map, self.slot(hash) + 8, how)

    def arm_number(self, number, how):
        struct.pack_into("<QQ", self.map, 32, number, how)

    def shots(self, n):
        """So many may fail from now on."""
        struct.pack_into("<qQ", self.map, 48, n, 0)

    def fired(self):
        return struct.unpack_from("<Q", self.map, 56)[0]

    def phase(self, number):
        struct.pack_into("<Q", self.map, 64, number)

    def take(self):
        """Reads what was written down since."""
        with self.lock:
            data = self.log.read_bytes()
            end = data.rfind(b"\n") + 1
            lines, self.read = data[self.read:end].decode().splitlines(), end
            for line in lines:
                what, program, pid, _, hash, phase, *calls = line.split()
                site = Site(program, int(hash, 16), int(phase), calls)
                if what == "place":
                    self.sites[site.hash] = site
                else:
                    self.failed.append(Failed(site, HOW[what], int(pid)))

    def of(self, program):
        return [s for s in self.sites.values() if s.program == program]


class Starved(Killed):
    """A daemon whose allocations, or its runners', can be made to fail. `died()` takes the ends that are right when memory is gone."""

    def __init__(self):
        super().__init__()
        self.control = Control(self.dir)
        self.plain_env = dict(self.bare_env)
        self.ends, self.log_read = collections.Counter(), 0

    def ctl(self, *args, env=None, **more):
        return super().ctl(*args, env=env or self.plain_env, **more)

    def starve(self):
        """From the next launch on."""
        self.bare_env = self.control.environment(self.plain_env)

    def new_log(self):
        text = self.log_text()
        new, self.log_read = text[self.log_read:], len(text)
        return new
