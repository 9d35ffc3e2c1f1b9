"""The build folders of the tests. A build that fails is a test that failed."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEPT = ("PATH", "CI", "CCACHE_DIR")


@contextlib.contextmanager
def private_environment():
    """What tests see of the environment: no keys, no configuration, temporary files and home of their own."""
    with tempfile.TemporaryDirectory(prefix="agentd-tests-", ignore_cleanup_errors=True) as folder:
        env = {name: os.environ[name] for name in KEPT if name in os.environ}
        env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        home, tmp = pathlib.Path(folder, "home"), pathlib.Path(folder, "tmp")
        home.mkdir()
        tmp.mkdir()
        env.update(HOME=str(home), TMPDIR=str(tmp), LANG="C.UTF-8", TZ="UTC", PYTHONDONTWRITEBYTECODE="1",
                   AGENTD_ROOT=str(ROOT))
        yield env


def has_option(name):
    for file in ("meson_options.txt", "meson.options"):
        path = ROOT / file
        if path.exists() and f"'{name}'" in path.read_text():
            return True
    return False


def same_options(folder, options):
    """Whether the folder was set up with just these (it is set up anew otherwise)."""
    mark = folder / "tests-options"
    return (folder / "build.ninja").exists() and mark.exists() and mark.read_text() == repr(options)


def make(report, env, name, folder, options, targets=(), compiler=None):
    """Sets up and builds; returns the folder, or None if that failed."""
    folder = ROOT / folder
    env = dict(env, **({"CC": compiler} if compiler else {}))
    began = time.monotonic()
    report.say(f"build {name} ...")
    if not same_options(folder, options):
        shutil.rmtree(folder, ignore_errors=True)
        if not step(report, env, f"build: {name}", ["meson", "setup", str(folder), *options]):
            return None
        (folder / "tests-options").write_text(repr(options))
    if not step(report, env, f"build: {name}", ["ninja", "-C", str(folder), *targets]):
        return None
    report.add(f"build: {name}", True)
    report.took(f"build {name}", time.monotonic() - began)
    return folder


def step(report, env, name, command):
    done = subprocess.run(command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        report.add(name, False, f"{' '.join(command)}\n{done.stdout[-8000:]}")
    return done.returncode == 0


def sanitized(report, env):
    options = ["-Db_sanitize=address,undefined", "-Dwerror=true", "-Db_lundef=false"]
    options += [f"-D{name}=true" for name in ("failpoints", "coverage") if has_option(name)]
    return make(report, env, "gcc, address and undefined sanitizers", "build-test", options)


def plain(report, env):
    """Failpoints and no sanitizer: for tests that start many daemons, or put a library in front of them."""
    return make(report, env, "plain", "build-plain", ["-Dfailpoints=true", "-Dwerror=true"])


def clang(report, env):
    return make(report, env, "clang", "build-clang", ["-Dwerror=true", "-Dbuildtype=debug"], compiler="clang")


def threads(report, env):
    """Only the store has a thread of its own."""
    options = ["-Db_sanitize=thread", "-Dwerror=true"]
    return make(report, env, "thread sanitizer", "build-tsan", options, targets=["tests/unit/test_store"])


PROGRAMS = ["daemon/agentd", "daemon/runner/agentd-runner", "daemon/runner/agentd-tool", "daemon/rehearsal/agentd-rehearsal",
            "daemon/supervisor/agentd-supervise", "client/agentctl", "tests/bench/bench-relay", "tests/bench/bench-floor",
            "tests/bench/bench-fill"]


def release(report, env, folder="build-bench"):
    """For the benchmarks: the programs only."""
    return make(report, env, "release", folder, ["-Dbuildtype=release", "-Dwerror=true"], targets=PROGRAMS)
