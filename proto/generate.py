#!/usr/bin/env python3
"""Makes C from agentd.json: types.h, types.c (descriptors), schema.c (the schema's text for rpc/describe), and cli.h, cli.c
(agentctl's commands and their help). Makes and checks the protocol's reference.

    generate.py agentd.json --types-h types.h --types-c types.c --schema-c schema.c --cli-h cli.h --cli-c cli.c
    generate.py --reference proto/REFERENCE.md
    generate.py --check-reference

Standard library only. See proto.h for the C shape of each type.
"""
import argparse
import json
import os
import sys

import commands
import reference

HERE = os.path.dirname(os.path.abspath(__file__))

KEYWORDS = {"for", "default"}


def c_name(text):
    out = text.replace(".", "_").replace("/", "_").replace("-", "_")
    return out + "_" if out in KEYWORDS else out


def upper(text):
    return c_name(text).upper()


class Generator:
    def __init__(self, schema, text):
        self.schema = schema
        self.text = text
        self.h = []
        self.c = []
        self.check()

    def check(self):
        """The schema's own rules, so that a mistake is found at build time."""
        for group in ("events", "methods"):
            numbers = [x["n"] for x in self.schema[group].values()]
            if len(set(numbers)) != len(numbers):
                sys.exit(f"agentd.json: a number is used twice in {group}")
        errors = {e["name"] for e in self.schema["errors"]}
        for name, method in self.schema["methods"].items():
            unknown = set(method["errors"]) - errors
            if unknown:
                sys.exit(f"agentd.json: {name} names unknown errors {sorted(unknown)}")
        for field in self.fields():
            if not field.get("doc"):
                sys.exit(f"agentd.json: a member has no doc: {field}")
            self.split(field)

    def fields(self):
        for group, key in (("objects", "members"), ("events", "members"), ("methods", "params"), ("methods", "result")):
            for entry in self.schema[group].values():
                yield from entry[key].values()
        yield from self.schema["delta"]["members"].values()

    def split(self, field):
        kind, _, name = field["type"].partition(":")
        if kind == "enum" and name not in self.schema["enums"]:
            sys.exit(f"agentd.json: unknown enum {name}")
        if kind in ("object", "array") and name not in self.schema["objects"] and name not in ("string", "event"):
            sys.exit(f"agentd.json: unknown object {name}")
        if kind not in ("string", "int", "bool", "time", "usd", "json", "enum", "object", "array"):
            sys.exit(f"agentd.json: unknown type {field['type']}")
        return kind, name

    @staticmethod
    def has_flag(field, kind):
        maybe = field.get("optional") or field.get("null")
        return bool(maybe) and kind in ("int", "enum", "object", "usd") and "default" not in field

    def struct(self, struct_name, members):
        self.h.append(f"struct {struct_name} {{")
        for name, field in members.items():
            kind, ref = self.split(field)
            n = c_name(name)
            if kind in ("string", "json"):
                self.h.append(f"    struct str {n};")
            elif kind in ("int", "time", "usd"):
                self.h.append(f"    int64_t {n};")
            elif kind == "bool":
                self.h.append(f"    bool {n};")
            elif kind == "enum":
                self.h.append(f"    enum {ref} {n};")
            elif kind == "object":
                self.h.append(f"    struct proto_{ref} {n};")
            elif ref in ("string", "event"):
                self.h.append(f"    const struct str *{n};\n    size_t {n}_n;")
            else:
                self.h.append(f"    const struct proto_{ref} *{n};\n    size_t {n}_n;")
            if self.has_flag(field, kind):
                self.h.append(f"    bool has_{n};")
        if not members:
            self.h.append("    char empty;")
        self.h.append("};")
        self.h.append(f"extern const struct proto_object {struct_name}_type;\n")
        self.descriptor(struct_name, members)

    def descriptor(self, struct_name, members):
        rows = []
        for name, field in members.items():
            kind, ref = self.split(field)
            n = c_name(name)
            flags = []
            if field.get("optional"):
                flags.append("PROTO_OPTIONAL")
            if field.get("null"):
                flags.append("PROTO_NULLABLE")
            if self.has_flag(field, kind):
                flags.append("PROTO_HAS")
            if "default" in field:
                flags.append("PROTO_DEFAULT")
            type_name = {"array": {"string": "PROTO_ARRAY_STRING", "event": "PROTO_ARRAY_JSON"}.get(
                ref, "PROTO_ARRAY_OBJECT")}.get(kind, "PROTO_" + kind.upper())
            parts = [f'.name = "{name}"', f".type = {type_name}", f".offset = offsetof(struct {struct_name}, {n})"]
            if flags:
                parts.append(".flags = " + " | ".join(flags))
            if self.has_flag(field, kind):
                parts.append(f".extra = offsetof(struct {struct_name}, has_{n})")
            if kind == "array":
                parts.append(f".extra = offsetof(struct {struct_name}, {n}_n)")
            if kind == "enum":
                parts.append(f".enumeration = &{ref}_enum")
            if kind in ("object", "array") and ref not in ("string", "event"):
                parts.append(f".object = &proto_{ref}_type")
            parts.append(f".min = {field.get('min', 'INT64_MIN')}, .max = {field.get('max', 'INT64_MAX')}")
            if "default" in field:
                value = field["default"]
                if kind == "enum":
                    value = f"{upper(ref)}_{upper(value)}"
                parts.append(f".def = {value}")
            rows.append("    {" + ", ".join(parts) + "},")
        fields = "NULL"
        if rows:
            fields = f"{struct_name}_fields"
            self.c.append(f"static const struct proto_field {fields}[] = {{")
            self.c.extend(rows)
            self.c.append("};")
        self.c.append(f"const struct proto_object {struct_name}_type = "
                      f'{{"{struct_name}", sizeof(struct {struct_name}), {fields}, {len(rows)}}};\n')

    def enums(self):
        for name, enum in self.schema["enums"].items():
            self.h.append(f"/* {enum['doc']} */")
            self.h.append(f"enum {name} {{")
            for i, value in enumerate(enum["values"]):
                self.h.append(f"    {upper(name)}_{upper(value)} = {i},")
            self.h.append("};")
            self.h.append(f"#define {upper(name)}_N {len(enum['values'])}")
            self.h.append(f"extern const struct proto_enum {name}_enum;\n")
            values = ", ".join(f'"{v}"' for v in enum["values"])
            self.c.append(f"static const char *const {name}_values[] = {{{values}}};")
            self.c.append(f'const struct proto_enum {name}_enum = {{"{name}", {name}_values, {len(enum["values"])}}};\n')

    def objects(self):
        # An object is written after those that it holds.
        done, order = set(), []

        def visit(name):
            if name in done:
                return
            done.add(name)
            for field in self.schema["objects"][name]["members"].values():
                kind, ref = self.split(field)
                if kind in ("object", "array") and ref in self.schema["objects"]:
                    visit(ref)
            order.append(name)

        for name in self.schema["objects"]:
            visit(name)
        for name in order:
            self.h.append(f"/* {self.schema['objects'][name]['doc']} */")
            self.struct("proto_" + name, self.schema["objects"][name]["members"])

    def events(self):
        events = self.schema["events"]
        self.h.append("/* Numbers are stored; they are never reused. */\nenum event_kind {")
        for kind, event in events.items():
            self.h.append(f"    EVENT_{upper(kind)} = {event['n']},")
        self.h.append("};")
        self.h.append(f"#define EVENT_KIND_MAX {max(e['n'] for e in events.values())}\n")
        for kind, event in events.items():
            self.h.append(f"/* {event['doc']} */")
            self.struct("event_" + c_name(kind), event["members"])
        self.h.append("/* One durable fact. Strings belong to whoever made the event. */\nstruct event {")
        self.h.append("    enum event_kind kind;\n    int64_t seq;\n    int64_t pos;\n    int64_t at;\n    struct str task;\n    union {")
        for kind in events:
            self.h.append(f"        struct event_{c_name(kind)} {c_name(kind)};")
        self.h.append("    };\n};\n")
        self.h.append("struct event_descriptor {\n    const char *kind; /* NULL: no such number */\n"
                      "    const struct proto_object *type;\n    size_t offset; /* of the members in struct event */\n};")
        self.h.append("extern const struct event_descriptor event_descriptors[EVENT_KIND_MAX + 1];\n")
        self.c.append("const struct event_descriptor event_descriptors[EVENT_KIND_MAX + 1] = {")
        for kind in events:
            n = c_name(kind)
            self.c.append(f'    [EVENT_{upper(kind)}] = {{"{kind}", &event_{n}_type, offsetof(struct event, {n})}},')
        self.c.append("};\n")

    def delta(self):
        self.h.append(f"/* {self.schema['delta']['doc']} */")
        self.struct("proto_delta", self.schema["delta"]["members"])

    def methods(self):
        methods = self.schema["methods"]
        self.h.append("enum method {")
        for name, method in methods.items():
            self.h.append(f"    METHOD_{upper(name)} = {method['n']},")
        self.h.append("};")
        self.h.append(f"#define METHOD_MAX {max(m['n'] for m in methods.values())}\n")
        for name, method in methods.items():
            self.h.append(f"/* {method['doc']} */")
            self.struct("params_" + c_name(name), method["params"])
            self.struct("result_" + c_name(name), method["result"])
        self.h.append("struct method_descriptor {\n    const char *name; /* NULL: no such number */\n"
                      "    enum role role; /* the least that a connection must have */\n"
                      "    bool changes;   /* a change, as against a view */\n"
                      "    const struct proto_object *params;\n    const struct proto_object *result;\n};")
        self.h.append("extern const struct method_descriptor method_descriptors[METHOD_MAX + 1];\n")
        self.c.append("const struct method_descriptor method_descriptors[METHOD_MAX + 1] = {")
        for name, method in methods.items():
            n = c_name(name)
            self.c.append(f'    [METHOD_{upper(name)}] = {{"{name}", ROLE_{upper(method["role"])}, '
                          f'{"true" if method["changes"] else "false"}, &params_{n}_type, &result_{n}_type}},')
        self.c.append("};\n")

    def errors(self):
        self.h.append("enum rpc_error {\n    RPC_OK = 0,")
        for error in self.schema["errors"]:
            self.h.append(f"    RPC_{upper(error['name'])} = {error['code']},")
        self.h.append("};\nextern const struct proto_error proto_errors[];\nextern const size_t proto_errors_n;\n")
        self.c.append("const struct proto_error proto_errors[] = {")
        for error in self.schema["errors"]:
            self.c.append(f'    {{{error["code"]}, "{error["name"]}", {json.dumps(error["hint"])}}},')
        self.c.append("};\nconst size_t proto_errors_n = sizeof proto_errors / sizeof proto_errors[0];")

    def generate(self):
        head = "/* Generated from agentd.json by generate.py. Do not edit. */\n"
        self.h += [head + "#pragma once\n#include \"proto/proto.h\"\n",
                   f"#define PROTOCOL_VERSION {self.schema['protocol']}\n"]
        self.c += [head + "#include \"proto/types.h\"\n"]
        self.enums()
        self.objects()
        self.events()
        self.delta()
        self.methods()
        self.errors()
        self.h.append("/* The schema itself, as one line of JSON. */\nextern const char proto_schema[];\nextern const size_t proto_schema_n;")
        return "\n".join(self.h) + "\n", "\n".join(self.c) + "\n"

    def schema_c(self):
        data = json.dumps(self.schema, ensure_ascii=False, separators=(",", ":")).encode()
        rows = [", ".join(str(b) for b in data[i:i + 24]) for i in range(0, len(data), 24)]
        return ('#include "proto/types.h"\n\nconst char proto_schema[] = {\n' + ",\n".join(rows) +
                ", 0};\n" + f"const size_t proto_schema_n = {len(data)};\n")


def check_reference(path, text):
    """The exit status: 0 if the file is what would be written."""
    try:
        with open(path, encoding="utf-8") as f:
            fresh = f.read() == text
    except FileNotFoundError:
        fresh = False
    if not fresh:
        print("proto/REFERENCE.md is stale: run proto/generate.py --reference proto/REFERENCE.md", file=sys.stderr)
    return 0 if fresh else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("schema", nargs="?", default=os.path.join(HERE, "agentd.json"))
    for name in ("types-h", "types-c", "schema-c", "cli-h", "cli-c", "reference"):
        parser.add_argument("--" + name, metavar="FILE")
    parser.add_argument("--check-reference", action="store_true", help="exit 1 if proto/REFERENCE.md is stale")
    args = parser.parse_args()
    with open(args.schema, encoding="utf-8") as f:
        text = f.read()
    schema = json.loads(text)
    generator = Generator(schema, text)
    try:
        commands.check(schema)
    except ValueError as e:
        sys.exit(f"agentd.json: {e}")
    outputs = {args.schema_c: generator.schema_c, args.reference: lambda: reference.generate(schema)}
    outputs.update(zip((args.types_h, args.types_c), (lambda t=t: t for t in generator.generate())))
    outputs.update(zip((args.cli_h, args.cli_c), (lambda t=t: t for t in commands.generate(schema))))
    for path, content in outputs.items():
        if path:
            with open(path, "w", encoding="utf-8") as f:
                f.write(content())
    if args.check_reference:
        sys.exit(check_reference(os.path.join(HERE, "REFERENCE.md"), reference.generate(schema)))


if __name__ == "__main__":
    main()
