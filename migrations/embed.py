"""Writes the migrations as C: number, name, text and BLAKE2b-256 hash of each NNNN_name.sql, in order, without a gap.

A database remembers the hashes of the migrations that made it, so a file is never changed once it is released."""
import hashlib
import re
import sys
from pathlib import Path


def c_text(text):
    lines = (line.replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n"))
    return "\n".join(f'     "{line}\\n"' for line in lines)


def entry(version, path):
    match = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", path.name)
    if not match or int(match[1]) != version:
        sys.exit(f"migrations: {path.name} stands where {version:04d}_*.sql is due")
    data = path.read_bytes()
    digest = ", ".join(f"0x{byte:02x}" for byte in hashlib.blake2b(data, digest_size=32).digest())
    return f'    {{{version}, "{path.name}",\n{c_text(data.decode("ascii"))},\n     {{{digest}}}}},\n'


def main(output, *files):
    paths = sorted(map(Path, files), key=lambda path: path.name)
    entries = [entry(version, path) for version, path in enumerate(paths, 1)]
    Path(output).write_text(
        '/* Made by migrations/embed.py. */\n#include "migrations/migrations.h"\n\n'
        "const struct migration migrations[] = {\n" + "".join(entries) + "};\n\n"
        f"const size_t migrations_n = {len(entries)};\n")


main(*sys.argv[1:])
