"""Lists and runs single unittest cases: `cases.py list FOLDER`, `cases.py run FOLDER NAME` (exit code 0, 1, or 77: skipped)."""
import sys
import unittest


def each(suite):
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from each(entry)
        else:
            yield entry


def main():
    verb, folder, *names = sys.argv[1:]
    sys.path.insert(0, folder)
    loader = unittest.TestLoader()
    if verb == "list":
        suite = loader.discover(folder, "test_*.py", folder)
        print("\n".join(case.id() for case in each(suite)))
        if loader.errors:
            print("\n".join(loader.errors), file=sys.stderr)
        return 1 if loader.errors else 0
    result = unittest.TextTestRunner(verbosity=0, stream=sys.stdout).run(loader.loadTestsFromNames(names))
    if not result.wasSuccessful() or result.testsRun == 0:
        return 1
    return 77 if result.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
