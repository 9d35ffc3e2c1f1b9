"""Arrows point inward: which folder may include what. ARCHITECTURE.md draws it, this holds it."""
import re
import unittest

import house

LIBC = house.LIBC_HEADERS

# Folder (the longest match counts) -> what its files may include of ours, by prefix.
RULES = {
    "daemon/base": ["daemon/base"],
    "daemon/core": ["daemon/core", "daemon/base", "proto/types.h", "proto/proto.h"],
    "daemon/pump": ["daemon/pump", "daemon/core", "daemon/base", "proto/types.h", "proto/proto.h"],
    "daemon/store": ["daemon/store", "daemon/base", "migrations/"],
    "daemon/config": ["daemon/config", "daemon/base"],
    "daemon/model": ["daemon/model", "daemon/core/types.h", "daemon/base", "proto/"],
    "daemon/tools": ["daemon/tools", "daemon/core/types.h", "daemon/base", "daemon/runner", "proto/types.h", "proto/proto.h"],
    "daemon/runner": ["daemon/runner", "daemon/base", "daemon/tools/image.h"],  # what counts as an image, for agentd-tool
    "daemon/rehearsal": ["daemon/rehearsal", "daemon/base"],
    "client": ["client", "proto/", "daemon/base", "daemon/supervisor"],
    "proto": ["proto/", "daemon/base"],
}
# Folder -> libraries that it may not know.
FORBIDDEN = {
    "daemon/base": ["uv.h", "curl/", "sqlite3.h", "jansson.h", "sodium.h", "yaml.h"],
    "daemon/core": ["uv.h", "curl/", "sqlite3.h", "jansson.h", "sodium.h", "yaml.h"],
    "daemon/pump": ["uv.h", "curl/", "sqlite3.h", "jansson.h", "sodium.h", "yaml.h"],
    "daemon/runner": ["uv.h", "curl/", "sqlite3.h", "jansson.h", "yaml.h"],  # agentd-tool hashes files with libsodium
    "daemon/store": ["curl/", "jansson.h", "yaml.h"],
    "daemon/model": ["sqlite3.h", "yaml.h"],
    "daemon/rpc": ["curl/", "sqlite3.h", "yaml.h"],
    "daemon/commands": ["curl/", "sqlite3.h", "yaml.h"],
    "daemon/tools": ["curl/", "sqlite3.h", "yaml.h"],
    "client": ["curl/", "sqlite3.h", "yaml.h"],
}


def rule(table, path):
    best = max((f for f in table if path.startswith(f + "/")), key=len, default=None)
    return table.get(best)


class Layers(unittest.TestCase):
    def test_folders_include_inward_only(self):
        wrong = []
        for path, line, name, system in house.includes():
            allowed = rule(RULES, path)
            if system or allowed is None or any(name.startswith(a) for a in allowed):
                continue
            if "/" not in name and (house.ROOT / path).parent.joinpath(name).exists():
                continue  # a neighbour in the same folder
            wrong.append(f"{path}:{line}: includes {name}")
        self.assertEqual([], wrong)

    def test_inner_folders_know_no_library(self):
        wrong = []
        for path, line, name, _ in house.includes():
            if any(name.startswith(f) for f in rule(FORBIDDEN, path) or ()):
                wrong.append(f"{path}:{line}: includes {name}")
        self.assertEqual([], wrong)

    def test_base_core_and_pump_know_libc_only(self):
        wrong = [f"{path}:{line}: includes <{name}>" for path, line, name, system in house.includes()
                 if system and path.startswith(("daemon/base/", "daemon/core/", "daemon/pump/")) and not LIBC.match(name)]
        self.assertEqual([], wrong)

    def test_core_and_pump_touch_no_clock_file_or_chance(self):
        call = re.compile(r"\b(open|openat|fopen|read|write|socket|time|clock_gettime|gettimeofday|rand|random|getrandom|getenv|fork|"
                          r"clock_read|usleep|nanosleep|system|popen)\s*\(")
        wrong = []
        for path in house.sources("daemon/core", "daemon/pump"):
            for n, line in enumerate(house.code_lines(path), 1):
                match = call.search(line)
                if match and not re.search(r"(->|\.)\s*" + match[1] + r"\s*\(|[*\w]\s*\(\*" + match[1], line):
                    wrong.append(f"{path}:{n}: {line.strip()}")
        self.assertEqual([], wrong)

    def test_a_file_includes_its_own_header_first(self):
        wrong = []
        for path in house.sources("daemon", "client", "proto"):
            header = path[:-2] + ".h"
            if not path.endswith(".c") or not (house.ROOT / header).exists():
                continue
            names = [name for p, _, name, system in house.includes([path]) if not system]
            if not names or not self.is_or_includes(path, names[0], header):
                wrong.append(f"{path}: first include is {names[:1]}")
        self.assertEqual([], wrong)

    @staticmethod
    def is_or_includes(path, name, header):
        """The own header, or the folder's inner header, which then includes it."""
        inner = name if "/" in name else path.rsplit("/", 1)[0] + "/" + name
        if inner in (header, path.rsplit("/", 1)[0] + "/internal.h"):
            return True
        if not (house.ROOT / inner).exists():
            return False
        return any(n in (header, header.rsplit("/", 1)[1]) for _, _, n, _ in house.includes([inner]))

    def test_headers_begin_with_pragma_once(self):
        wrong = [p for p in house.sources("daemon", "client", "proto", "tests") if p.endswith(".h")
                 and "#pragma once" not in "".join((house.ROOT / p).read_text().splitlines(True)[:12])]
        self.assertEqual([], wrong)


if __name__ == "__main__":
    unittest.main()
