"""Copies of the built programs, laid out as an installation has them: two of them may have different versions, and one is replaced
while it runs, as a package manager does it."""
import os
import pathlib
import re
import shutil
import subprocess

from .daemon import AGENTCTL, AGENTD, BUILD, ROOT

VERSION = re.search(r"^  version: '([^']+)'", (ROOT / "meson.build").read_text(), re.M)[1].encode()
PROGRAMS = {"bin/agentctl": AGENTCTL, "libexec/agentd/agentd": AGENTD,
            "libexec/agentd/agentd-supervise": BUILD / "daemon" / "supervisor" / "agentd-supervise",
            "libexec/agentd/agentd-runner": BUILD / "daemon" / "runner" / "agentd-runner",
            "libexec/agentd/agentd-tool": BUILD / "daemon" / "runner" / "agentd-tool"}


class Installed:
    def __init__(self, folder, version=VERSION.decode()):
        self.folder = pathlib.Path(folder)
        self.put(version)

    @property
    def agentctl(self):
        return self.folder / "bin" / "agentctl"

    @property
    def libexec(self):
        return self.folder / "libexec" / "agentd"

    def put(self, version):
        """Replaces every program by rename. A version is a word in the executables, as long as the true one."""
        assert len(version) == len(VERSION)
        for name, source in PROGRAMS.items():
            to = self.folder / name
            to.parent.mkdir(parents=True, exist_ok=True)
            new = to.with_suffix(".new")
            data = source.read_bytes()
            new.write_bytes(data.replace(VERSION, version.encode()) if source in (AGENTCTL, AGENTD) else data)
            new.chmod(0o755)
            os.replace(new, to)
        self.version = version

    def remove(self):
        shutil.rmtree(self.folder)

    def ctl(self, place, *args, check=None, timeout_s=120, env=None):
        done = subprocess.run([str(self.agentctl), *map(str, args)], capture_output=True, timeout=timeout_s, env=env or place.env,
                              cwd=place.workspace, text=True, stdin=subprocess.DEVNULL)
        if check is not None and done.returncode != check:
            raise AssertionError(f"agentctl {' '.join(map(str, args))}: exit {done.returncode}, not {check}\n"
                                 f"stdout: {done.stdout[-2000:]}\nstderr: {done.stderr[-2000:]}")
        return done
