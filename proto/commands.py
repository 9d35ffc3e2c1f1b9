"""Makes cli.h and cli.c from the commands of agentd.json: the tables that agentctl parses its arguments by, and its help texts.
What the help says and what the parser takes cannot differ."""
import json
import textwrap

WIDTH = 80

HEADER = """/* Generated from agentd.json by generate.py. Do not edit. */
#pragma once
/* agentctl's commands: what each takes, its help text, and whether it may start the daemon. */
#include <stdbool.h>
#include <stddef.h>

struct cli_option {
    const char *name;  /* "--model" */
    const char *brief; /* "-m", or NULL */
    const char *value; /* what stands for its value in the help; NULL: it takes none */
};

enum cli_start {
    CLI_START_NEVER,
    CLI_START_VIEW, /* only after a crash */
    CLI_START_WORK,
};

struct cli_command {
    const char *name; /* one word or two */
    const char *synopsis;
    const char *help;
    const struct cli_option *options;
    size_t options_n;
    const char *const *args; /* their names */
    size_t args_min, args_max;
    enum cli_start start;
};

extern const struct cli_command cli_commands[];
extern const size_t cli_commands_n;
/* Options that every command takes. */
extern const struct cli_option cli_common[];
extern const size_t cli_common_n;
extern const char cli_help[];
"""


def wrap(text, indent):
    return textwrap.fill(text.replace("`", ""), WIDTH, initial_indent=indent, subsequent_indent=indent,
                         break_on_hyphens=False, break_long_words=False)


def title(option):
    """"-m, --model MODEL" """
    brief = f"{option['short']}, " if "short" in option else "    "
    return f"  {brief}{option['name']}" + (f" {option['value']}" if "value" in option else "")


def rows(pairs):
    """Two columns; the second is wrapped."""
    column = min(max((len(left) for left, _ in pairs), default=0) + 2, 30)
    out = []
    for left, right in pairs:
        lines = wrap(right, " " * column).split("\n")
        if len(left) + 2 <= column:
            lines[0] = left.ljust(column) + lines[0][column:]
        else:
            lines.insert(0, left)
        out += lines
    return out


def argument(arg):
    return f"[{arg['name']}]" if arg.get("optional") else arg["name"]


def synopsis(name, command):
    parts = ["agentctl", name]
    parts += [f"[{o.get('short', o['name'])}" + (f" {o['value']}" if "value" in o else "") + "]" for o in command["options"]]
    parts += [argument(a) for a in command["args"]]
    return " ".join(parts)


def usage_lines(name, command):
    text = synopsis(name, command)
    # An option and its value stay on one line.
    glued = text.replace(" ", "\0").replace("]\0", "] ").replace("\0[", " [")
    head = f"agentctl {name}"
    glued = head + glued[len(head):]
    lines = textwrap.wrap(glued, WIDTH - 7, break_on_hyphens=False, break_long_words=False)
    return [("usage: " if i == 0 else "       " + " " * 4) + line.replace("\0", " ") for i, line in enumerate(lines)]


def command_help(schema, name, command):
    out = usage_lines(name, command) + ["", wrap(command["doc"], "")]
    if command["args"]:
        out += [""] + rows([("  " + a["name"], a["doc"]) for a in command["args"]])
    if command["options"]:
        out += ["", "Options"] + rows([(title(o), o["doc"]) for o in command["options"]])
    out += ["", "Example" if len(command["examples"]) == 1 else "Examples"] + ["  " + e for e in command["examples"]]
    out += ["", "Exit codes"] + rows([(f"  {c}", schema["exit_codes"][str(c)]) for c in command["exit"]])
    out += ["", "Options of every command"] + rows([(title(o), o["doc"]) for o in schema["command_options"]])
    return "\n".join(out) + "\n"


def first_sentence(doc):
    return doc.split(". ")[0].split("; ")[0].rstrip(".")


def main_help(schema):
    out = ["usage: agentctl COMMAND [OPTION]... [ARGUMENT]...", "",
           wrap("Coding agents that work in the background: a task goes on when this terminal is closed, when the daemon is "
                "killed, when the machine restarts.", ""), "", "Commands"]
    out += rows([("  " + " ".join([name] + [argument(a) for a in c["args"]]), first_sentence(c["doc"]))
                 for name, c in schema["commands"].items()])
    out += ["", wrap("TASK is a task's id or the beginning of it, its name, or @last.", ""), "", "Options of every command"]
    out += rows([(title(o), o["doc"]) for o in schema["command_options"]])
    out += ["", "Exit codes"] + rows([(f"  {c}", doc) for c, doc in schema["exit_codes"].items()])
    out += ["", "Example", "  agentctl run \"make the tests pass\"", "",
            "agentctl COMMAND --help says more about one command."]
    return "\n".join(out) + "\n"


def c_string(text):
    if len(text) < 80:
        return json.dumps(text)
    return "\n".join("        " + json.dumps(line) for line in text.splitlines(keepends=True)).lstrip()


def option_row(option):
    brief = f'"{option["short"]}"' if "short" in option else "NULL"
    value = f'"{option["value"]}"' if "value" in option else "NULL"
    return f'    {{"{option["name"]}", {brief}, {value}}},'


def check(schema):
    """Raises ValueError with a sentence."""
    common = {o["name"] for o in schema["command_options"]} | {o.get("short") for o in schema["command_options"]} - {None}
    for name, command in schema["commands"].items():
        if not command["examples"]:
            raise ValueError(f"the command {name} has no example")
        for code in command["exit"]:
            if str(code) not in schema["exit_codes"]:
                raise ValueError(f"the command {name} names the unknown exit code {code}")
        names = [n for o in command["options"] for n in (o["name"], o.get("short")) if n]
        if len(set(names)) != len(names) or common & set(names):
            raise ValueError(f"the command {name} has an option twice")


def generate(schema):
    out = ['/* Generated from agentd.json by generate.py. Do not edit. */\n#include "proto/cli.h"\n']
    out += ["const struct cli_option cli_common[] = {"] + [option_row(o) for o in schema["command_options"]] + ["};"]
    out.append("const size_t cli_common_n = sizeof cli_common / sizeof cli_common[0];\n")
    table = []
    for name, command in schema["commands"].items():
        n = name.replace(" ", "_")
        options = args = "NULL"
        if command["options"]:
            options = f"{n}_options"
            out += [f"static const struct cli_option {options}[] = {{"] + [option_row(o) for o in command["options"]] + ["};"]
        if command["args"]:
            args = f"{n}_args"
            names = ", ".join(f'"{a["name"]}"' for a in command["args"])
            out.append(f"static const char *const {args}[] = {{{names}}};")
        least = sum(not a.get("optional") for a in command["args"])
        table.append(f'    {{"{name}", {c_string(synopsis(name, command))},\n        {c_string(command_help(schema, name, command))},\n'
                     f'        {options}, {len(command["options"])}, {args}, {least}, {len(command["args"])}, '
                     f'CLI_START_{command["start"].upper()}}},')
    out += ["", "const struct cli_command cli_commands[] = {"] + table + ["};"]
    out.append("const size_t cli_commands_n = sizeof cli_commands / sizeof cli_commands[0];\n")
    out.append("const char cli_help[] =\n        " + c_string(main_help(schema)) + ";")
    return HEADER, "\n".join(out) + "\n"
