"""`meson install`: things are where a packager expects them, and the installed tree works by itself."""
import os
import pathlib
import subprocess
import unittest

from lib import BUILD, Case, poll, processes_of, sh


class Install(Case):
    def test_the_installed_tree_runs_a_task(self):
        place = self.place()
        root = place.dir / "root"
        done = subprocess.run(["meson", "install", "-C", str(BUILD), "--no-rebuild", "--destdir", str(root)], capture_output=True,
                              text=True, env=dict(place.env, HOME=os.environ.get("HOME", "/")))
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        files = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
        prefix = "usr/local/"
        for name in ("bin/agentctl", "bin/agentd-rehearsal", "libexec/agentd/agentd", "libexec/agentd/agentd-supervise",
                     "libexec/agentd/agentd-runner", "libexec/agentd/agentd-tool"):
            self.assertIn(prefix + name, files)
            self.assertTrue(os.access(files[prefix + name], os.X_OK), name)
        for page in ("man1/agentctl.1", "man8/agentd.8", "man5/agentd-config.5"):
            self.assertTrue([f for f in files if f.startswith(prefix + "share/man/" + page)], page)
        stray = [f for f in files if not f.startswith((prefix + "bin/", prefix + "libexec/agentd/", prefix + "share/"))]
        self.assertEqual([], stray, "nothing stands elsewhere")
        self.run_task_with(place, files[prefix + "bin/agentctl"], pathlib.Path(root, prefix))

    def run_task_with(self, place, agentctl, prefix):
        model = self.model([{"calls": [sh("echo from-the-installed")]}, {"say": "It works."}])
        place.write_config(model.base_url)

        def ctl(*arguments):
            return subprocess.run([str(agentctl), *arguments], env=place.env, cwd=place.workspace, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=120)
        self.addCleanup(ctl, "daemon", "stop")
        done = ctl("run", "work")
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertIn("It works.", done.stdout)
        self.assertIn("from-the-installed", model.requests[1].outputs()[0])
        # All of it is the installed one: nothing of the build folder runs.
        for pid in processes_of(place.dir):
            exe = os.readlink(f"/proc/{pid}/exe")
            if "agentd" in os.path.basename(exe):
                self.assertTrue(exe.startswith(str(prefix)), exe)
        self.assertEqual(0, ctl("daemon", "stop").returncode)
        poll(lambda: not processes_of(place.dir))


if __name__ == "__main__":
    unittest.main()
