"""Counts test cases of all sorts and prints them: one line a suite, the output of what failed."""
import threading
import time


class Report:
    def __init__(self, patterns=()):
        self.patterns = patterns
        self.passed = self.failed = self.skipped = 0
        self.failures, self.times = [], []
        self.lock = threading.Lock()
        self.began = time.monotonic()

    def wanted(self, name):
        return not self.patterns or any(p in name for p in self.patterns)

    def say(self, text):
        with self.lock:
            print(f"[{time.monotonic() - self.began:6.1f}s] {text}", flush=True)

    def took(self, name, seconds, result=""):
        self.times.append((name, seconds))
        self.say(f"{name}: {result + ' in ' if result else ''}{seconds:.1f} s")

    def say_times(self):
        """The longest first."""
        with self.lock:
            print("\ntook\n" + "\n".join(f"{seconds:7.1f} s  {name}" for name, seconds in sorted(self.times, key=lambda t: -t[1])))

    def suite(self, name):
        return Suite(self, name)

    def add(self, name, ok, output="", seconds=None):
        with self.lock:
            if ok:
                self.passed += 1
            else:
                self.failed += 1
                self.failures.append(name)
        if not ok:
            took = f" ({seconds:.1f} s)" if seconds is not None else ""
            self.say(f"FAILED {name}{took}\n" + "\n".join("    " + line for line in output.strip().splitlines()[-120:]))

    def last_line(self):
        if self.failures:
            print("\nfailed:\n" + "\n".join("  " + name for name in self.failures))
        print(f"took {time.monotonic() - self.began:.0f} s")
        return f"{self.passed} passed, {self.failed} failed"


class Suite:
    """Says how a suite went when it is left."""

    def __init__(self, report, name):
        self.report, self.name = report, name

    def __enter__(self):
        self.before, self.began = (self.report.passed, self.report.failed), time.monotonic()
        self.report.say(f"{self.name} ...")
        return self

    def __exit__(self, kind, error, _):
        passed, failed = self.report.passed - self.before[0], self.report.failed - self.before[1]
        self.report.took(self.name, time.monotonic() - self.began, f"{passed} passed, {failed} failed")
        return False
