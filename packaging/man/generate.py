#!/usr/bin/env python3
"""Fills a manual page: `@COMMANDS@` and its like are made from proto/agentd.json and daemon/base/limits.h, so that a page says what
the programs do.

    generate.py PAGE.in proto/agentd.json daemon/base/limits.h VERSION OUT
"""
import json
import re
import sys


def text(words):
    """Running text for roff: `code` is bold, hyphens are real ones, nothing begins a request by accident."""
    words = words.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    words = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", words)
    return re.sub(r"^([.'])", r"\\&\1", words, flags=re.M)


def option(o):
    names = ([o["short"]] if "short" in o else []) + [o["name"]]
    value = f" Ar {o['value']}" if "value" in o else ""
    return ".It " + " , ".join(f"Fl {n[1:]}{value}" for n in names)


def commands(schema):
    lines = []
    for name, command in schema["commands"].items():
        args = "".join(f" Op Ar {a['name']}" if a.get("optional") else f" Ar {a['name']}" for a in command["args"])
        lines += [f".It Cm {name}" + (" Oo Ar options Oc" if command["options"] else "") + args, text(command["doc"])]
        if command["args"] or command["options"]:
            lines += [".Bl -tag -width Ds -compact"]
            for a in command["args"]:
                lines += [f".It Ar {a['name']}", text(a["doc"])]
            for o in command["options"]:
                lines += [option(o), text(o["doc"])]
            lines += [".El"]
        lines += [".Pp", "Example:"] + [f".Dl {text(e)}" for e in command["examples"]]
    return "\n".join([".Bl -tag -width Ds"] + lines + [".El"])


def common_options(schema):
    lines = [".Bl -tag -width Ds"]
    for o in schema["command_options"]:
        lines += [option(o), text(o["doc"])]
    return "\n".join(lines + [".El"])


def exit_codes(schema):
    lines = [".Bl -tag -width 130"]
    for code, meaning in schema["exit_codes"].items():
        lines += [f".It {code}", text(meaning)]
    return "\n".join(lines + [".El"])


LIMIT = re.compile(r'X\((\w+), (\d+), (\d+), (\d+), "([^"]*)"\)')


def limits(header):
    lines = [".Bl -tag -width Ds"]
    for name, default, least, most, doc in LIMIT.findall(header):
        lines += [f".It Cm {name}", text(f"{doc[0].upper()}{doc[1:]}. Default {default}, from {least} to {most}.")]
    if len(lines) == 1:
        sys.exit("generate.py: no limits were found in the header")
    return "\n".join(lines + [".El"])


def main():
    page, schema_path, limits_path, version, out = sys.argv[1:]
    with open(schema_path, encoding="utf-8") as f:
        schema = json.load(f)
    with open(limits_path, encoding="utf-8") as f:
        header = f.read()
    with open(page, encoding="utf-8") as f:
        done = f.read()
    parts = {"COMMANDS": lambda: commands(schema), "OPTIONS": lambda: common_options(schema),
             "EXIT_CODES": lambda: exit_codes(schema), "LIMITS": lambda: limits(header), "VERSION": lambda: version}
    done = re.sub(r"@([A-Z_]+)@", lambda m: parts[m[1]](), done)
    with open(out, "w", encoding="utf-8") as f:
        f.write(done)


if __name__ == "__main__":
    main()
