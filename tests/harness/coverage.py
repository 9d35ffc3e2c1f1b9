"""Which lines of the core and the store the whole test command reaches. Every program of the test build counts its own (processes that are
killed count nothing; those that end add to the same files, under a lock), and gcovr reads them at the end."""
import json
import pathlib
import subprocess
import tempfile

from .build import ROOT

FOLDERS = ("daemon/core", "daemon/store")


def begin(folder):
    """Forgets what was counted before."""
    for path in folder.rglob("*.gcda"):
        path.unlink()


def read(folder):
    """(files with their sums, files with their lines), as gcovr has them; None and why."""
    with tempfile.TemporaryDirectory() as made:
        sums, lines = pathlib.Path(made, "sums"), pathlib.Path(made, "lines")
        command = ["gcovr", "--root", str(ROOT), "--json-summary", str(sums), "--json", str(lines), str(folder)]
        for name in FOLDERS:
            command += ["--filter", f"{ROOT}/{name}/"]
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            return None, done.stdout + done.stderr
        return (json.loads(sums.read_text())["files"], json.loads(lines.read_text())["files"]), ""


def row(name, entry):
    def part(what):
        covered, total = entry[f"{what}_covered"], entry[f"{what}_total"]
        return f"{covered:5} of {total:5} {100 * covered / total if total else 100:6.1f} %"
    return f"{name:34} {part('line')}   {part('branch')}"


def sums_of(files):
    names = [f"{what}_{how}" for what in ("line", "branch") for how in ("covered", "total")]
    return {name: sum(f[name] for f in files) for name in names}


def missing(file):
    """The lines that were never reached, as ranges."""
    numbers = [line["line_number"] for line in file["lines"] if line["count"] == 0 and not line.get("gcovr/noncode")]
    ranges = []
    for n in numbers:
        if ranges and ranges[-1][1] == n - 1:
            ranges[-1][1] = n
        else:
            ranges.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def finish(report, folder):
    """Prints the table, and every line that none of the tests has reached."""
    found, why = read(folder)
    if not found:
        report.add("coverage", False, why)
        return
    sums, details = found
    table = ["coverage" + 36 * " " + "lines" + 22 * " " + "branches"]
    for name in FOLDERS:
        files = [f for f in sums if f["filename"].startswith(name + "/")]
        table += [row(f["filename"], f) for f in files] + [row(name, sums_of(files))]
    table += [f"not reached: {f['file']}: {text}" for f in details if (text := missing(f))]
    report.say("\n".join(table))
