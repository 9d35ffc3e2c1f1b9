"""Checks what passes over the socket against proto/agentd.json: types, enums, required members, no unknown ones.

Deliberately written without the generator: it judges the daemon by the schema's own words."""
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCHEMA_PATH = ROOT / "proto" / "agentd.json"
SCHEMA = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
ERRORS = {e["name"]: e for e in SCHEMA["errors"]}
# Errors that any request can meet, whatever its method lists.
GENERAL = {"parse_error", "invalid_request", "method_not_found", "invalid_params", "internal_error", "not_initialized",
           "frame_too_large", "too_deep", "forbidden", "limit_reached", "read_only", "stopping"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


class SchemaError(AssertionError):
    pass


def fail(where, what):
    raise SchemaError(f"{where}: {what}")


def check_scalar(where, kind, value):
    ok = {
        "string": lambda v: isinstance(v, str),
        "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
        "bool": lambda v: isinstance(v, bool),
        "usd": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
        "time": lambda v: isinstance(v, str) and TIME.match(v) is not None,
    }[kind]
    if not ok(value):
        fail(where, f"{value!r:.200} is no {kind}")


def check_bounds(where, field, value):
    size = len(value.encode()) if isinstance(value, str) else value
    if "min" in field and size < field["min"] or "max" in field and size > field["max"]:
        fail(where, f"{value!r:.100} is outside {field.get('min')}..{field.get('max')}")


def check_value(where, field, value):
    if value is None:
        if not field.get("null") and field["type"] != "json":
            fail(where, "null is not allowed")
        return
    kind, _, ref = field["type"].partition(":")
    if kind == "json":
        return
    if kind == "enum":
        if value not in SCHEMA["enums"][ref]["values"]:
            fail(where, f"{value!r} is not in enum {ref}")
    elif kind == "object":
        check_members(where, SCHEMA["objects"][ref]["members"], value)
    elif kind == "array":
        if not isinstance(value, list):
            fail(where, "is no array")
        for i, element in enumerate(value):
            check_element(f"{where}[{i}]", ref, element)
    else:
        check_scalar(where, kind, value)
        if kind in ("string", "int"):
            check_bounds(where, field, value)


def check_element(where, ref, element):
    if ref == "string":
        check_scalar(where, "string", element)
    elif ref == "event":
        check_event(element)
    else:
        check_members(where, SCHEMA["objects"][ref]["members"], element)


def check_members(where, members, value, extra=()):
    if not isinstance(value, dict):
        fail(where, f"{value!r:.200} is no object")
    for name, field in members.items():
        if name in value:
            check_value(f"{where}.{name}", field, value[name])
        elif not field.get("optional"):
            fail(where, f"member {name} is missing in {value!r:.300}")
    unknown = set(value) - set(members) - set(extra)
    if unknown:
        fail(where, f"unknown members {sorted(unknown)}")


def check_event(event, extra=()):
    if not isinstance(event, dict) or event.get("kind") not in SCHEMA["events"]:
        fail("event", f"unknown kind in {event!r:.300}")
    members = dict(SCHEMA["event_header"], **SCHEMA["events"][event["kind"]]["members"])
    check_members(event["kind"], members, event, extra)


def check_delta(delta, extra=()):
    check_members("delta", SCHEMA["delta"]["members"], delta, extra)


def check_result(method, result):
    check_members(f"result of {method}", SCHEMA["methods"][method]["result"], result)


def check_error(method, error):
    where = f"error of {method}"
    if not isinstance(error, dict) or not {"code", "message", "data"} >= set(error):
        fail(where, f"has unknown members: {error!r:.300}")
    if not isinstance(error.get("message"), str) or not error["message"]:
        fail(where, "has no message")
    data = error.get("data")
    if not isinstance(data, dict) or data.get("name") not in ERRORS or not isinstance(data.get("hint"), str):
        fail(where, f"data lacks name or hint: {error!r:.300}")
    if error["code"] != ERRORS[data["name"]]["code"]:
        fail(where, f"code and name differ: {error!r:.300}")
    listed = set(SCHEMA["methods"].get(method, {}).get("errors", ()))
    if data["name"] not in listed | GENERAL:
        fail(where, f"{data['name']} is not listed for the method")
