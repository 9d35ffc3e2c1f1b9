"""packaging/quickstart: the first thing that a person runs. The build folder of the tests stands in for the one that it would make."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from lib import AGENTCTL, BUILD, ROOT, Place, Rehearsal, poll, processes_of

TIMEOUT_S = 180


class Quickstart(unittest.TestCase):
    def setUp(self):
        self.place = Place()  # an environment of its own; its folders
        self.addCleanup(self.finish)
        self.cwd = self.place.dir / "somewhere else"
        self.cwd.mkdir()
        self.env = {name: value for name, value in self.place.env.items() if not name.startswith("AGENTD_")}

    def finish(self):
        wrong = self.place.finish()
        self.assertEqual([], wrong)

    def copy(self):
        """A source tree in a path with spaces; only packaging/ is looked at with --no-build."""
        root = self.place.dir / "a source tree"
        shutil.copytree(ROOT / "packaging", root / "packaging")
        return root

    def start(self, root, *arguments, **more):
        options = dict(cwd=self.cwd, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, start_new_session=True)
        options.update(more)
        return subprocess.Popen([str(root / "packaging" / "quickstart"), "--build", str(BUILD), "--no-build", *arguments],
                                **options)

    def run_it(self, root, *arguments, **more):
        process = self.start(root, *arguments, **more)
        try:
            output = process.communicate(timeout=TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            self.fail("it hangs: " + process.communicate()[0][-3000:])
        return process.returncode, output

    def left(self):
        return {pid: line for pid, line in processes_of(self.place.dir).items()}

    def nothing_left(self):
        poll(lambda: not self.left(), 20, f"that nothing is left: {self.left()}")

    def folders(self):
        return list(pathlib.Path(self.env["TMPDIR"]).glob("agentd-quickstart.*"))

    def test_the_demonstration_from_another_folder_with_spaces_and_twice(self):
        self.env["TMPDIR"] = str(self.place.dir / "temporary files")
        os.mkdir(self.env["TMPDIR"])
        root = self.copy()
        for count in (1, 2):
            code, output = self.run_it(root)
            self.assertEqual(0, code, output)
            said = [m.start() for m in re.finditer(r"no model (was|is) called", output, re.I)]
            work = output.index("make test", output.index("I run the tests first"))
            self.assertTrue(said[0] < work < said[-1], "it says before and after that no model is called")
            for part in ('FAIL "1h30m": want 5400, got 11400', "all 14 passed", "patch duration.c", "+        value = 0;",
                         "all 14 tests pass", "OPENAI_API_KEY"):
                self.assertIn(part, output)
            self.nothing_left()
            self.assertEqual(count, len(self.folders()))
        for folder in self.folders():
            self.assertIn(str(folder), output) if folder == max(self.folders(), key=os.path.getmtime) else None
            done = subprocess.run(["make", "-C", folder / "project", "clean", "test"], capture_output=True, text=True)
            self.assertEqual(0, done.returncode, "the fix is real: " + done.stdout)
        self.assertEqual([], [f for f in os.listdir(root) if f != "packaging"], "it writes nothing beside the build folder")

    def test_what_it_names_to_see_the_task_again_works(self):
        code, output = self.run_it(ROOT)
        self.assertEqual(0, code, output)
        commands = [line for line in output.splitlines() if line.strip().startswith("AGENTD_CONFIG=")]
        self.assertEqual(2, len(commands))
        results = [subprocess.run(["sh", "-c", c], env=self.env, cwd=self.cwd, capture_output=True, text=True, timeout=60)
                   for c in [*commands, commands[0].replace("daemon start", "daemon stop")]]
        self.assertEqual([0, 0, 0], [r.returncode for r in results], [r.stderr for r in results])
        self.assertIn("all 14 passed", results[1].stdout)
        self.nothing_left()

    def broken(self, old, new):
        root = self.copy()
        source = root / "packaging" / "demo" / "project" / "duration.c"
        text = source.read_text()
        self.assertIn(old, text)
        source.write_text(text.replace(old, new))
        code, output = self.run_it(root)
        self.assertEqual(1, code, output)
        self.assertNotIn("all 14 tests pass", output)
        self.assertRegex(output, r"(?i)no model was called")
        self.nothing_left()
        return output

    def test_another_bug_is_not_fixed_by_it(self):
        output = self.broken("return 60;", "return 61;")
        self.assertIn('FAIL "10m": want 600, got 610', output)

    def test_the_same_failure_from_other_code_is_not_fixed_by_it(self):
        self.broken("seconds += value * unit;", "seconds = seconds + value * unit;")

    def test_a_project_that_is_right_already_is_no_success(self):
        self.broken("        before = unit;\n", "        before = unit;\n        value = 0;\n")

    def test_an_interrupt_leaves_nothing_running(self):
        process = self.start(ROOT)
        seen = ""
        while "I run the tests first" not in seen:
            piece = process.stdout.readline()
            self.assertTrue(piece, seen)
            seen += piece
        os.killpg(process.pid, signal.SIGINT)
        seen += process.communicate(timeout=TIMEOUT_S)[0]
        self.assertNotEqual(0, process.returncode, seen)
        self.nothing_left()

    def test_a_real_task_uses_what_the_user_has(self):
        rehearsal = Rehearsal(self.place, {"steps": [{"say": "I write it.", "call": {
            "tool": "exec_command", "arguments": {"cmd": "echo hello > written"}}}, {"say": "It is written."}]})
        self.addCleanup(rehearsal.close)
        (self.cwd / "mine").mkdir()
        self.env.update(OPENAI_API_KEY="sk-none", OPENAI_BASE_URL=rehearsal.base_url, OPENAI_MODEL="rehearsal",
                        XDG_STATE_HOME=str(self.place.dir / "xdg-state"), XDG_RUNTIME_DIR=str(self.place.dir / "xdg-run"))
        os.mkdir(self.env["XDG_RUNTIME_DIR"], 0o700)
        code, output = self.run_it(ROOT, "--", "write", "the file", cwd=self.cwd / "mine")
        stop = subprocess.run([AGENTCTL, "daemon", "stop"], env=self.env, capture_output=True, text=True, timeout=60)
        self.assertEqual(0, code, output)
        self.assertEqual(0, stop.returncode, stop.stderr)
        self.assertEqual("hello\n", (self.cwd / "mine" / "written").read_text())
        self.assertIn("It is written.", output)
        self.assertTrue((self.place.dir / "xdg-state" / "agentd").is_dir())
        self.assertEqual([], self.folders())

    def test_a_real_task_without_a_key_says_what_to_set(self):
        code, output = self.run_it(ROOT, "--", "do it")
        self.assertEqual(2, code)
        self.assertIn("OPENAI_API_KEY", output)

    def test_wrong_usage(self):
        for arguments in (("do it",), ("--",), ("--nonsense",), ("--build",)):
            done = subprocess.run([ROOT / "packaging" / "quickstart", *arguments], env=self.env, cwd=self.cwd,
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual((2, ""), (done.returncode, done.stdout), arguments)
            self.assertIn("--help", done.stderr)
        done = subprocess.run([ROOT / "packaging" / "quickstart", "--help"], env=self.env, capture_output=True, text=True)
        self.assertEqual(0, done.returncode)
        self.assertIn("Example", done.stdout)


class Packages(unittest.TestCase):
    """Which packages it asks for, with a Debian that is played by small programs in PATH."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="quickstart-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.bin = self.dir / "bin"
        self.bin.mkdir()
        for name in ("sh", "dirname", "mktemp", "cat", "printf", "sed", "grep", "env"):
            (self.bin / name).symlink_to(shutil.which(name))
        self.program("dpkg-query", "exit 1")
        self.program("apt-get", f'echo "apt-get $*" >> {self.dir}/calls; case $* in *install*) exit 1;; esac')

    def program(self, name, text):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run_it(self, *arguments):
        done = subprocess.run([ROOT / "packaging" / "quickstart", "--build", self.dir / "build", *arguments], cwd=self.dir,
                              env={"PATH": str(self.bin), "HOME": str(self.dir)}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        calls = self.dir / "calls"
        return done, calls.read_text().splitlines() if calls.exists() else []

    ALL = ("build-essential", "meson", "ninja-build", "pkg-config", "python3", "libuv1-dev", "libcurl4-openssl-dev",
           "libjansson-dev", "libsqlite3-dev", "libsodium-dev", "libyaml-dev", "libzstd-dev")

    def test_without_rights_it_prints_the_line(self):
        self.program("id", "echo 1000")
        self.program("sudo", "exit 1")
        done, calls = self.run_it()
        self.assertEqual((1, []), (done.returncode, calls))
        line = re.search(r"apt-get update && apt-get install -y .*", done.stderr).group(0)
        for package in self.ALL:
            self.assertIn(" " + package, line)

    def test_as_root_it_installs(self):
        self.program("id", "echo 0")
        done, calls = self.run_it()
        self.assertEqual(1, done.returncode, "apt-get install fails here")
        self.assertEqual("apt-get -q update", calls[0])
        for package in self.ALL:
            self.assertIn(" " + package, calls[1])

    def test_by_sudo_it_installs(self):
        self.program("id", "echo 1000")
        self.program("sudo", f'echo "sudo $*" >> {self.dir}/calls; [ "$1" = -n ] || "$@"')
        done, calls = self.run_it()
        self.assertEqual(["sudo -n true", "sudo env DEBIAN_FRONTEND=noninteractive apt-get -q update"], calls[:2])
        self.assertTrue(any(c.startswith("apt-get -q install -y") for c in calls), calls)

    def test_only_what_is_lacking(self):
        self.program("id", "echo 0")
        self.program("dpkg-query", 'case "$*" in *libyaml-dev*) exit 1;; *) echo installed;; esac')
        for name in ("meson", "ninja", "pkg-config", "python3"):
            self.program(name, "exit 1")
        done, calls = self.run_it()
        install = next(c for c in calls if "install" in c)
        self.assertEqual(["libyaml-dev"], [p for p in self.ALL if f" {p}" in install])

    def test_no_install_only_says_so(self):
        self.program("id", "echo 0")
        done, calls = self.run_it("--no-install")
        self.assertEqual((1, []), (done.returncode, calls))
        self.assertIn("apt-get install", done.stderr)
