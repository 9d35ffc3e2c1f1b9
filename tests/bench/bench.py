"""What the benchmarks share: the release build, processes that are waited for with their CPU time, medians. Standard library only."""
import ctypes
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "blackbox")]
PR_SET_CHILD_SUBREAPER = 36


def build():
    """The release build; its folder."""
    from harness import build
    from harness.report import Report
    folder = build.release(Report(), dict(os.environ), os.environ.get("AGENTD_BENCH_BUILD", "build-bench"))
    if not folder:
        sys.exit("the release build failed")
    os.environ["AGENTD_BUILD"] = str(folder)
    return folder


def adopt_orphans():
    """Processes whose parent goes become ours, so that the CPU time of each is known when it ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))


def wait_cpu(pid=-1):
    """Waits for children until `pid` (or all) have ended; the CPU seconds of each, with those that it waited for."""
    spent = {}
    while True:
        try:
            ended, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return spent
        spent[ended] = usage.ru_utime + usage.ru_stime
        if ended == pid:
            return spent


def floor(folder, n=300):
    out = subprocess.run([str(pathlib.Path(os.environ["AGENTD_BUILD"], "tests/bench/bench-floor")), str(folder), str(n)],
                         capture_output=True, text=True, check=True).stdout
    return {name: int(value) / 1e6 for name, value in (line.split() for line in out.splitlines())}


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def pss_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def own_cpu_ms(pid):
    """CPU time of a process so far, without its children's; in steps of 10 ms."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def spawn_ms(argv, env=None):
    """Start to end of a program whose output goes nowhere."""
    actions = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
    began = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, env or dict(os.environ), file_actions=actions)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"{argv} ended with {os.waitstatus_to_exitcode(status)}")
    return (time.perf_counter() - began) * 1000


def row(name, value, unit="", note=""):
    print(f"  {name:<52} {value:>9} {unit:<3} {note}".rstrip())


median = statistics.median
