"""The suites: how each is found, run and counted."""
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TAP = re.compile(r"^(not )?ok \d+(?: - (.*))?$")
BLACKBOX_TIMEOUT_S = 240
UNIT_TIMEOUT_S = 300


def sanitizer_environment():
    return {"ASAN_OPTIONS": "detect_leaks=1:handle_abort=1:quarantine_size_mb=16",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"}


def run(command, env, timeout_s, cwd=ROOT):
    """Exit code (None: out of time), output, seconds. The whole process group ends with it."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, code = process.communicate(timeout=timeout_s)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, code = process.communicate()[0] + f"\nout of time after {timeout_s} s\n".encode(), None
    return code, output.decode(errors="replace"), time.monotonic() - began


# ---- C ----

def meson_tests(folder):
    done = subprocess.run(["meson", "introspect", "--tests", str(folder)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def count_tap(report, name, code, output, seconds):
    """One test case per TAP line; an end that is not clean is one more that failed."""
    found = failed = 0
    for line in output.splitlines():
        match = TAP.match(line.strip())
        if match and "# SKIP" not in line:
            found += 1
            failed += bool(match[1])
            report.add(f"{name}: {match[2] or found}", not match[1], output, seconds)
    if code != 0 and not failed or not found:
        report.add(f"{name}: exit code {code}", False, output, seconds)


def unit(options, report, env, folder, label="unit tests"):
    tests = [t for t in meson_tests(folder) if report.wanted("unit " + t["name"]) and not in_suite(t, "sim")]
    with report.suite(label):
        for test in tests:
            run_meson_test(report, env, folder, test)


def run_meson_test(report, env, folder, test):
    env = dict(env, CMOCKA_MESSAGE_OUTPUT="TAP", **sanitizer_environment())
    env.update(test["env"])
    limit = max(UNIT_TIMEOUT_S, int(test.get("timeout") or 0))
    code, output, seconds = run(test["cmd"], env, limit, cwd=test.get("workdir") or folder)
    name = "unit " + test["name"]
    if test.get("protocol") == "tap":
        count_tap(report, name, code, output, seconds)
    else:
        report.add(name, code == 0, output, seconds)


def in_suite(test, name):
    return any(s.rpartition(":")[2] == name for s in test["suite"])


def sim(options, report, env, folder):
    """Each seed is a test of its own: `sim --seeds N` ends with another code than 0 if any went wrong."""
    tests = [t for t in meson_tests(folder) if in_suite(t, "sim") and report.wanted("sim")]
    env = dict(env, **sanitizer_environment())
    with report.suite("simulation"):
        for test in tests:
            env.update(test["env"])
            command = [a if not options.quick or a != "500" else "20" for a in test["cmd"]]
            code, output, seconds = run(command, env, 600)
            if any(TAP.match(line.strip()) for line in output.splitlines()):
                count_tap(report, "sim", code, output, seconds)
            else:
                report.add(" ".join(["sim", *command[1:]]), code == 0, output, seconds)


def tsan(options, report, env, folder):
    test = folder / "tests" / "unit" / "test_store"
    if not report.wanted("tsan store"):
        return
    env = dict(env, CMOCKA_MESSAGE_OUTPUT="TAP", **sanitizer_environment())
    with report.suite("store under the thread sanitizer"):
        # Without address randomisation: gcc 12's thread sanitizer cannot map its shadow on kernels with much of it.
        code, output, seconds = run(["setarch", "-R", str(test)], env, UNIT_TIMEOUT_S)
        if code != 0 and "setarch" in output:
            code, output, seconds = run([str(test)], env, UNIT_TIMEOUT_S)
        count_tap(report, "tsan store", code, output, seconds)


# ---- Python ----

def discover(folder, env):
    """Names of the test cases in a folder, found in a process of their own; (names, error)."""
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "harness" / "cases.py"), "list", str(folder)], env=env,
                          capture_output=True, text=True)
    return done.stdout.split(), done.stderr if done.returncode else ""


def run_case(report, suite, folder, name, env, timeout_s):
    command = [sys.executable, str(ROOT / "tests" / "harness" / "cases.py"), "run", str(folder), name]
    code, output, seconds = run(command, env, timeout_s)
    if code == 77:
        report.skipped += 1
        report.say(f"skipped {suite} {name}: {output.strip().splitlines()[-1] if output.strip() else ''}")
        return
    report.add(f"{suite} {name}", code == 0, output, seconds)
    if seconds > 30:
        report.say(f"{suite} {name} took {seconds:.0f} s")


def python_suite(options, report, env, suite, folder, jobs):
    names, error = discover(folder, env)
    if error or not names:
        report.add(f"{suite}: no tests found", False, error)
        return
    names = [n for n in names if report.wanted(f"{suite} {n}") and not (options.quick and "_slow" in n)]
    # The long ones first, so that the end is not one of them alone.
    names.sort(key=lambda n: "_slow" not in n)
    with report.suite(f"{suite} tests"), concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda n: run_case(report, suite, folder, n, env, BLACKBOX_TIMEOUT_S), names))


def house(options, report, env):
    python_suite(options, report, env, "house", ROOT / "tests" / "house", 2)


def blackbox(options, report, env, folder):
    env = dict(env, AGENTD_BUILD=str(folder))
    if options.keep:
        env.update(AGENTD_TEST_KEEP="1", TMPDIR=os.environ.get("TMPDIR", "/tmp"))
    python_suite(options, report, env, "blackbox", ROOT / "tests" / "blackbox", options.jobs)


# ---- what prints TAP by itself ----

def campaign(report, env, kind, name, *more):
    """Its short form; each rule is a test case, and the figures are shown."""
    if report.wanted(f"{kind} {name}"):
        code, output, seconds = run([str(ROOT / "tests" / kind / name), *more], env, 600)
        if code == 77:
            report.skipped += 1
            report.say(f"{kind} {name}: {output.strip()}")
            return
        count_tap(report, f"{kind} {name}", code, output, seconds)
        report.say("\n".join(f"{kind} {name}: {line[2:]}" for line in output.splitlines() if line.startswith("# ")))


def crash(options, report, env, folder):
    env = dict(env, AGENTD_BUILD=str(folder))
    with report.suite("crash tests"):
        for name in ("runnerkill", "kill"):
            campaign(report, env, "crash", name, *(["--kills", "20"] if options.quick else []))
        campaign(report, env, "crash", "upgrade", *(["--restarts", "6"] if options.quick else []))


def faults(options, report, env, folder):
    env = dict(env, AGENTD_BUILD=str(folder))
    with report.suite("faults"):
        campaign(report, env, "faults", "io", *(["--seconds", "10"] if options.quick else []))
        campaign(report, env, "faults", "oom", *(["--seconds", "10"] if options.quick else []))
        campaign(report, env, "faults", "full", *(["--tasks", "10", "--fills", "3"] if options.quick else []))


def power(options, report, env, folder):
    """With a plain build: each state is the start of a daemon."""
    with report.suite("loss of power"):
        campaign(report, dict(env, AGENTD_BUILD=str(folder)), "crash", "powerloss",
                 *(["--states", "100"] if options.quick else []))


def fuzz(options, report, env):
    """Each corpus replayed, then half a minute of new inputs; a target is a test case, and its figures are shown."""
    names = sorted(f.stem.removeprefix("fuzz_") for f in (ROOT / "tests" / "fuzz").glob("fuzz_*.c"))
    wanted = [option for n in names if report.wanted(f"fuzz {n}") for option in ("--target", n)]
    if wanted:
        with report.suite("fuzz tests"):
            command = [str(ROOT / "tests" / "fuzz" / "run"), "--seconds", "30", "--jobs", str(options.jobs), *wanted]
            code, output, seconds = run(command, env, 1800)
            count_tap(report, "fuzz", code, output, seconds)
            report.say("\n".join(line for line in output.splitlines() if line.startswith("ok ")))


def list_all(options):
    for suite in ("house", "blackbox"):
        names, error = discover(ROOT / "tests" / suite, dict(os.environ))
        print("\n".join(f"{suite} {n}" for n in names) + error)
    return 0
