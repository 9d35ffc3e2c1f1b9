"""Makes REFERENCE.md from agentd.json: the protocol for people."""
from commands import synopsis

RULES = """\
## Rules

- **Frames.** A message is one line of JSON (RFC 8259), UTF-8, ended by a line feed. It holds no line feed itself. Duplicate
  members are refused. A message above the daemon's `frame_bytes_max`, or nested deeper than `depth_max`, is answered with an error.
- **Messages.** JSON-RPC 2.0. A request has `jsonrpc`, `id` (a string or a number), `method`, and `params` as an object. There are no
  batches. Unknown parameters are refused, so that a mistyped one is not ignored.
- **Order.** Requests may be sent without waiting for replies; replies carry the request's `id`.
- **Readers are tolerant.** A client ignores members, event kinds and enum values that it does not know. Meanings never change.
- **Durable before visible.** A reply to a change, and every event, rests on facts that are already on disk. Deltas are previews
  and carry no facts.
- **Keys.** `key` is the client's own id for a change. The same key again returns the first answer and does nothing; the same key with
  other parameters is `key_conflict`. After a lost connection a client sends the change again with the same key.
- **Events have no gaps and no duplicates.** `seq` counts 1, 2, 3 ... within a task. A client that lost its connection subscribes
  again with `after_seq`: the last that it handled.
- **Times** are RFC 3339 in UTC with `Z` and three digits of a second. They are for people; order is `seq` and `pos`.
- **Roles**, from the strongest: `owner`, `steerer`, `observer`. A method names the least that it needs.
"""

EXAMPLE = """\
## A conversation

    -> {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocol":1,"client":{"name":"mine","version":"1"}}}
    <- {"jsonrpc":"2.0","id":1,"result":{"protocol":1,"server":{"name":"agentd","version":"0.1.0"},"state_dir":"/home/me/.local/state/agentd","role":"owner","capabilities":[]}}
    -> {"jsonrpc":"2.0","id":2,"method":"events/subscribe","params":{"task":"fix-parser","after_seq":0,"deltas":true}}
    <- {"jsonrpc":"2.0","id":2,"result":{"subscription":1,"task":"t01jb..."}}
    <- {"jsonrpc":"2.0","method":"event","params":{"subscription":1,"seq":1,"pos":17,"task":"t01jb...","at":"2026-01-02T03:04:05.678Z","kind":"task.created",...}}
"""


def cell(text):
    return text.replace("|", "\\|")


def type_text(field):
    kind, _, name = field["type"].partition(":")
    if kind == "enum":
        text = f"[{name}](#enum-{name})"
    elif kind == "object":
        text = f"[{name}](#object-{name})"
    elif kind == "array":
        inner = {"string": "string", "event": "[event](#events)"}.get(name, f"[{name}](#object-{name})")
        text = f"array of {inner}"
    else:
        text = {"usd": "number", "json": "any"}.get(kind, kind)
    return text + (" or null" if field.get("null") else "")


def notes(field):
    unit = " bytes" if field["type"] == "string" else ""
    out = []
    if "min" in field and "max" in field:
        out.append(f"{field['min']} to {field['max']}{unit}")
    elif "min" in field:
        out.append(f"at least {field['min']}{unit}")
    elif "max" in field:
        out.append(f"at most {field['max']}{unit}")
    # A default outside the bounds stands for "not given".
    if "default" in field and field["default"] not in (-1,) and field["default"] != 0:
        out.append(f"default `{field['default']}`")
    return f" ({', '.join(out)})" if out else ""


def members(fields, marks=True):
    lines = ["| member | type | |", "|---|---|---|"]
    for name, field in fields.items():
        mark = "?" if marks and field.get("optional") else ""
        lines.append(f"| `{name}`{mark} | {type_text(field)} | {cell(field['doc'] + notes(field))} |")
    return lines


def section_methods(schema):
    general = ["parse_error", "invalid_request", "invalid_params", "internal_error", "not_initialized", "forbidden", "frame_too_large",
               "too_deep"]
    out = ["## Methods", "", "A `?` marks a member that may be left out. Any method can fail with "
           + ", ".join(f"`{e}`" for e in general) + ".", "", "| method | role | |", "|---|---|---|"]
    for name, m in schema["methods"].items():
        anchor = name.replace("/", "")
        out.append(f"| [`{name}`](#{anchor}) | {m['role']} | {cell(m['doc'].split('. ')[0].rstrip('.'))} |")
    for name, m in schema["methods"].items():
        sort = "a change" if m["changes"] else "a view"
        out += ["", f"### {name}", "", m["doc"], "", f"Role: `{m['role']}`; {sort}."]
        out += ["", "Parameters:", ""] + members(m["params"]) if m["params"] else ["", "Parameters: none."]
        out += ["", "Result:", ""] + members(m["result"]) if m["result"] else ["", "Result: an empty object."]
        if m["errors"]:
            out += ["", "Errors: " + ", ".join(f"`{e}`" for e in m["errors"]) + "."]
    return out


def section_notifications(schema):
    out = ["## Notifications", ""]
    out += [f"- `{name}`: {text}" for name, text in schema["notifications"].items()]
    return out + ["", "### Delta", "", schema["delta"]["doc"], ""] + members(schema["delta"]["members"])


def section_events(schema):
    out = ["## Events", "", "Every event begins with these members:", ""] + members(schema["event_header"])
    for kind, event in schema["events"].items():
        out += ["", f"### {kind}", "", event["doc"], ""] + members(event["members"])
    return out


def section_objects(schema):
    out = ["## Objects"]
    for name, o in schema["objects"].items():
        out += ["", f'<a id="object-{name}"></a>', "", f"### Object {name}", "", o["doc"], ""] + members(o["members"])
    return out


def section_enums(schema):
    out = ["## Enums", "", "| enum | values | |", "|---|---|---|"]
    for name, e in schema["enums"].items():
        values = " ".join(f"`{v}`" for v in e["values"])
        out.append(f'| <a id="enum-{name}"></a>`{name}` | {values} | {cell(e["doc"])} |')
    return out


def section_errors(schema):
    out = ["## Errors", "", "An error carries `code`, `message` (what is wrong) and `data`: `{\"name\", \"hint\"}`, where the hint says what "
           "to do.", "", "| code | name | hint |", "|---|---|---|"]
    return out + [f"| {e['code']} | `{e['name']}` | {cell(e['hint'])} |" for e in schema["errors"]]


def section_commands(schema):
    out = ["## agentctl", "", "`agentctl COMMAND --help` says more. TASK is a task's id or the beginning of it, its name, or `@last`. "
           "Every command takes " + ", ".join(f"`{o['name']}`" for o in schema["command_options"]) + ".", "", "| command | |", "|---|---|"]
    out += [f"| `{cell(synopsis(name, c))}` | {cell(c['doc'])} |" for name, c in schema["commands"].items()]
    out += ["", "| exit code | |", "|---|---|"]
    return out + [f"| {code} | {cell(doc)} |" for code, doc in schema["exit_codes"].items()]


def generate(schema):
    out = ["<!-- Generated by proto/generate.py from proto/agentd.json. Do not edit; run: proto/generate.py --reference proto/REFERENCE.md -->",
           f"# {schema['title']}, version {schema['protocol']}", "", schema["doc"], "", RULES, EXAMPLE]
    for section in (section_methods, section_notifications, section_events, section_objects, section_enums, section_errors,
                    section_commands):
        out += section(schema) + [""]
    return "\n".join(out).rstrip("\n") + "\n"
