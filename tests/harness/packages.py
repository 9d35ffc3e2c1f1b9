"""Installs the Debian packages that the tests need and that are lacking."""
import os
import shutil
import subprocess

PACKAGES = ["build-essential", "clang", "libclang-rt-14-dev", "meson", "ninja-build", "pkg-config", "python3", "libuv1-dev",
            "libcurl4-openssl-dev", "libjansson-dev", "libsqlite3-dev", "libsodium-dev", "libyaml-dev", "libzstd-dev", "libcmocka-dev",
            "gcovr"]
# Packages by which another Debian names the same thing.
OTHER_NAMES = {"pkg-config": ["pkgconf"], "libclang-rt-14-dev": ["libclang-rt-dev"]}


def installed(name):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name], capture_output=True, text=True)
    return done.stdout.startswith("installed")


def lacking():
    return [p for p in PACKAGES if not any(installed(n) for n in [p, *OTHER_NAMES.get(p, [])])]


def install(report):
    if not shutil.which("dpkg-query"):
        report.say("this is no Debian: the packages are taken to be there")
        return True
    names = lacking()
    if not names:
        return True
    report.say("installing " + " ".join(names))
    prefix = []
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            report.add("install", False, "run as root: apt-get install " + " ".join(names))
            return False
        prefix = ["sudo", "env", "DEBIAN_FRONTEND=noninteractive"]
    apt(prefix, ["update", "-q"])  # its failure shows in what follows
    done = apt(prefix, ["install", "-y", "-q", "--no-install-recommends", *names])
    if done.returncode != 0:
        report.add("install", False, done.stdout[-4000:] + "\nrun as root: apt-get install " + " ".join(names))
    return done.returncode == 0


def apt(prefix, arguments):
    return subprocess.run([*prefix, "apt-get", *arguments], env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
