"""Rules for the files themselves: sizes, generated files that are fresh, scripts that parse, texts that fit any machine."""
import hashlib
import json
import os
import re
import subprocess
import sys
import unittest

import house

LINES_MAX = 1000
TEXT = (".c", ".h", ".py", ".md", ".json", ".yaml", ".yml", ".sql", ".build", ".sh", ".txt")
# Written so that this file does not hold what it looks for.
MACHINE = [re.compile(p) for p in (r"/wor[k]/(main|shared)", r"/home/(?!me\b|you\b)[a-z]+[/\s]", r"/roo[t]/", r"/var/fol[d]ers")]
HOSTS = re.compile(r"\b(registry\.npmj[s]\.org|pyp[i]\.org|crates\.i[o]|proxy\.golang\.or[g]|deb\.debian\.or[g]|artifactor[y]|nexu[s]\.)")


def text_files():
    return [f for f in house.files() if f.endswith(TEXT) or is_script(f)]


def is_script(name):
    path = house.ROOT / name
    with open(path, "rb") as f:
        return f.read(2) == b"#!"


def first_line(name):
    with open(house.ROOT / name, encoding="utf-8", errors="replace") as f:
        return f.readline()


class Files(unittest.TestCase):
    def test_none_is_long(self):
        long = [f"{f}: {n} lines" for f in house.files(".c", ".h", ".py", ".sh", ".md")
                if (n := len((house.ROOT / f).read_text().splitlines())) > LINES_MAX and f != "proto/REFERENCE.md"]
        self.assertEqual([], long)

    def test_c_lines_fit(self):
        wide = [f"{f}:{n}" for f in house.sources("daemon", "client", "proto") for n, line in enumerate((house.ROOT / f).read_text().splitlines(), 1)
                if len(line.expandtabs(8)) > 140]
        self.assertEqual([], wide)

    def test_no_path_of_a_machine(self):
        wrong = [f"{f}:{n}: {line.strip()[:120]}" for f in text_files() for n, line in self.lines(f)
                 if any(m.search(line) for m in MACHINE)]
        self.assertEqual([], wrong)

    def test_no_registry_hosts(self):
        wrong = [f"{f}:{n}: {line.strip()[:120]}" for f in text_files() for n, line in self.lines(f) if HOSTS.search(line)]
        self.assertEqual([], wrong)

    def test_text_is_utf8_without_trailing_space(self):
        wrong = []
        for f in text_files():
            data = (house.ROOT / f).read_bytes()
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as e:
                wrong.append(f"{f}: {e}")
                continue
            if "\r\n" in text and "fixtures" not in f:
                wrong.append(f"{f}: CRLF")
            if f.endswith((".c", ".h", ".py")):
                wrong += [f"{f}:{n}: space at the end" for n, line in enumerate(text.splitlines(), 1) if line != line.rstrip()]
        self.assertEqual([], wrong)

    def test_shell_scripts_parse(self):
        scripts = [f for f in house.files() if is_script(f) and re.search(r"\b(ba|da)?sh\b", first_line(f))]
        scripts += [f for f in house.files(".sh") if f not in scripts]
        for f in scripts:
            shell = "bash" if "bash" in first_line(f) else "sh"
            done = subprocess.run([shell, "-n", str(house.ROOT / f)], capture_output=True, text=True)
            self.assertEqual("", done.stderr, f)
            self.assertEqual(0, done.returncode, f)

    def test_scripts_are_executable(self):
        wrong = [f for f in house.files() if is_script(f) and not f.endswith(".py") and not os.access(house.ROOT / f, os.X_OK)]
        self.assertEqual([], wrong)

    def test_python_parses_and_is_standard_library_only(self):
        import ast
        local = {os.path.splitext(os.path.basename(f))[0] for f in house.files(".py")} | {"lib", "harness"}
        scripts = [f for f in house.files() if f.endswith(".py") or is_script(f) and "python" in first_line(f)]
        wrong = []
        for f in scripts:
            for node in ast.walk(ast.parse((house.ROOT / f).read_text(), f)):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                    [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                wrong += [f"{f}: imports {n}" for n in names if n.split(".")[0] not in sys.stdlib_module_names | local]
        self.assertEqual([], wrong)

    def test_nothing_is_left_undone(self):
        mark = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b")
        wrong = [f"{f}:{n}: {line.strip()}" for f in house.files(".c", ".h", ".py", ".md") for n, line in self.lines(f)
                 if mark.search(line)]
        self.assertEqual([], wrong)

    @staticmethod
    def lines(name):
        return enumerate((house.ROOT / name).read_text(errors="replace").splitlines(), 1)


class Generated(unittest.TestCase):
    def test_the_reference_is_fresh(self):
        done = subprocess.run([sys.executable, "proto/generate.py", "--check-reference"], cwd=house.ROOT, capture_output=True, text=True)
        self.assertEqual(0, done.returncode, "make it with: python3 proto/generate.py proto/agentd.json --reference "
                         "proto/REFERENCE.md\n" + done.stdout + done.stderr)

    def test_the_reference_names_everything(self):
        schema = json.loads((house.ROOT / "proto/agentd.json").read_text())
        text = (house.ROOT / "proto/REFERENCE.md").read_text()
        names = [*schema["methods"], *schema["events"], *schema["enums"], *[e["name"] for e in schema["errors"]]]
        self.assertEqual([], [n for n in names if n not in text])


class Migrations(unittest.TestCase):
    def test_numbered_without_gaps(self):
        names = [f.split("/")[1] for f in house.files(".sql") if f.startswith("migrations/")]
        self.assertTrue(names)
        numbers = [int(n[:4]) for n in names]
        self.assertEqual(list(range(1, len(numbers) + 1)), numbers)

    def test_none_is_edited_once_it_is_pinned(self):
        """migrations/released has the hash of each: databases remember it, and one that was made with another text is refused."""
        pinned = dict(line.split() for line in (house.ROOT / "migrations/released").read_text().splitlines())
        found = {f.split("/")[1]: hashlib.blake2b((house.ROOT / f).read_bytes(), digest_size=32).hexdigest()
                 for f in house.files(".sql") if f.startswith("migrations/")}
        self.assertEqual(pinned, found, "a new migration is pinned by tests/fixtures/make; one that was released is never edited")

    def test_each_has_a_fixture(self):
        """So that there is a database of each schema that the tests bring to the newest one."""
        names = {f.split("/")[2] for f in house.files() if f.startswith("tests/fixtures/schema-")}
        wanted = {f"schema-{f.split('/')[1][:4]}" for f in house.files(".sql") if f.startswith("migrations/")}
        self.assertEqual(wanted, names, "make it with tests/fixtures/make (AGENTD_BUILD: a build of this schema)")


if __name__ == "__main__":
    unittest.main()
