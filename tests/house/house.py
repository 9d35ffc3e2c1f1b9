"""What the house tests share: the files of the repository and their includes."""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'\s*#\s*include\s+(["<])([^">]+)[">]')
LIBC_HEADERS = re.compile(r"(assert|ctype|dlfcn|errno|fcntl|float|inttypes|limits|locale|malloc|math|poll|pwd|signal|spawn|stdalign|"
                          r"stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|termios|time|unistd|"
                          r"sys/[a-z]+|linux/[a-z]+)\.h$")


def files(*suffixes):
    """Files of the repository: those under version control, and new ones that are not ignored."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        names = done.stdout.split("\n")
    else:  # a tarball
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if not re.match(r"build|\.git/", str(p.relative_to(ROOT)))]
    return sorted(n for n in names if n and (ROOT / n).is_file() and (not suffixes or n.endswith(suffixes)))


def sources(*folders):
    return [f for f in files(".c", ".h") if f.startswith(tuple(d + "/" for d in folders))]


def includes(paths=None):
    """(path, line, name, whether it is a system header)"""
    for path in paths or files(".c", ".h"):
        for n, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match:
                yield path, n, match[2], match[1] == "<"


def code_lines(path):
    """The lines of a C file with comments and strings blanked out."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])
    text = (ROOT / path).read_text()
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S).splitlines()
