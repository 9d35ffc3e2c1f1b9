"""A JSON-RPC client on a raw socket. Everything that arrives is checked against the schema, and events for gaps and order.
What is found wrong is kept in `problems`, which the fixture's teardown turns into a failure."""
import json
import os
import socket
import threading
import time

from . import schema

DEADLINE_S = 60  # generous: sanitizers, two cores, neighbours


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(f"{error['data']['name']}: {error['message']}")
        self.code, self.message = error["code"], error["message"]
        self.name, self.hint = error["data"]["name"], error["data"]["hint"]


class Closed(Exception):
    pass


def refuse_duplicates(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise schema.SchemaError(f"duplicate members in {names}")
    return dict(pairs)


class Client:
    def __init__(self, path, name="blackbox", initialize=True, problems=None, timeout_s=DEADLINE_S):
        self.timeout_s = timeout_s
        self.problems = problems if problems is not None else []
        self.changed = threading.Condition()
        self.replies, self.methods, self.events, self.deltas = {}, {}, [], []
        self.last_seq, self.last_pos = {}, {}
        self.next_id, self.closed, self.raw_bytes = 1, False, 0
        self.ends = []  # of subscriptions, told by the daemon
        self.notifications = []  # ("event" | "delta" | "end", params) in order of arrival
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        self._connect(str(path))
        self.sock.settimeout(None)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.hello = self.initialize(name) if initialize else None

    def _connect(self, path):
        if len(path) < 100:
            return self.sock.connect(path)
        folder = os.open(os.path.dirname(path), os.O_PATH)  # a socket's address holds 107 bytes
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.reader.join(5)
        self.sock.close()

    def initialize(self, name="blackbox"):
        return self.call("initialize", protocol=1, client={"name": name, "version": "1"})

    # ---- receiving ----

    def _read(self):
        rest = b""
        try:
            while data := self.sock.recv(1 << 16):
                self.raw_bytes += len(data)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._take(line)
            if rest:
                self.problems.append(f"the connection ended inside a frame: {rest[:200]!r}")
        except OSError:
            pass
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()

    def _take(self, line):
        with self.changed:
            try:
                message = json.loads(line.decode("utf-8"), object_pairs_hook=refuse_duplicates)
                self._sort(message)
            except (ValueError, schema.SchemaError, KeyError, TypeError) as e:
                self.problems.append(f"{type(e).__name__}: {e} in {line[:400]!r}")
            self.changed.notify_all()

    def _sort(self, message):
        if message.get("jsonrpc") != "2.0":
            raise schema.SchemaError("no jsonrpc 2.0")
        if "method" not in message:
            return self._reply(message)
        params = message["params"]
        if message["method"] == "event":
            schema.check_event(params, extra=("subscription",))
            self._order(params)
            self.events.append(params)
        elif message["method"] == "delta":
            schema.check_delta(params, extra=("subscription",))
            self.deltas.append(params)
        elif message["method"] == "end":
            more = {"removed": set(), "unreadable": {"detail"}}.get(params["reason"])
            if more is None or set(params) != {"subscription", "task", "reason"} | more:
                raise schema.SchemaError(f"not as an end of a subscription is: {params}")
            self.ends.append(params)
        else:
            raise schema.SchemaError(f"unknown notification {message['method']}")
        self.notifications.append((message["method"], params))

    def _reply(self, message):
        if set(message) not in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}):
            raise schema.SchemaError("a reply has result or error, and nothing else")
        method = self.methods.get(message["id"])
        self.replies.setdefault(message["id"], message)  # first: a bad one must not hang its caller
        if "error" in message:
            schema.check_error(method, message["error"])
        elif method:
            schema.check_result(method, message["result"])

    def _order(self, event):
        sub = event["subscription"]
        last = self.last_seq.get((sub, event["task"]))
        if last is not None and event["seq"] != last + 1:
            self.problems.append(f"seq goes from {last} to {event['seq']} in {event['task']}")
        if event["pos"] <= self.last_pos.get(sub, 0):
            self.problems.append(f"pos goes from {self.last_pos[sub]} to {event['pos']}")
        self.last_seq[(sub, event["task"])], self.last_pos[sub] = event["seq"], event["pos"]

    def wait_for(self, predicate, timeout_s=None, what="the condition"):
        """Waits until predicate() is true, asked whenever something arrives; returns its value."""
        deadline = time.monotonic() + (timeout_s or self.timeout_s)
        with self.changed:
            while not (value := predicate()):
                left = deadline - time.monotonic()
                if left <= 0:
                    tail = "\n".join(json.dumps(e)[:300] for e in self.events[-12:])
                    raise AssertionError(f"{what} did not come true in time; last events:\n{tail}")
                if self.closed:
                    raise Closed(f"the connection closed while waiting for {what}")
                self.changed.wait(left)
            return value

    # ---- sending ----

    def send_raw(self, data):
        self.sock.sendall(data)

    def send(self, method, **params):
        with self.changed:
            id, self.next_id = self.next_id, self.next_id + 1
            self.methods[id] = method
        self.send_raw(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n")
        return id

    def reply(self, id, timeout_s=None):
        message = self.wait_for(lambda: self.replies.get(id), timeout_s, f"the reply {id} ({self.methods.get(id)})")
        if "error" in message:
            raise RpcError(message["error"])
        return message["result"]

    def call(self, method, **params):
        return self.reply(self.send(method, **params))

    # ---- for people who write tests ----

    def subscribe(self, task=None, after_seq=None, after_pos=None, deltas=False):
        params = {"deltas": deltas}
        for name, value in (("task", task), ("after_seq", after_seq), ("after_pos", after_pos)):
            if value is not None:
                params[name] = value
        return self.call("events/subscribe", **params)["subscription"]

    def create(self, workspace, prompt="Do the work.", **params):
        """Creates a task and follows it from its first event, deltas too."""
        task = self.call("task/create", prompt=prompt, workspace=str(workspace), **params)["task"]
        self.subscribe(task=task, after_seq=0, deltas=True)
        return task

    def of(self, task, kind=None, **members):
        """Events seen of a task, each once, in order of seq."""
        seen = {}
        for event in list(self.events):
            if event["task"] == task and (kind is None or event["kind"] == kind):
                if all(event.get(k) == v for k, v in members.items()):
                    seen[event["seq"]] = event
        return [seen[seq] for seq in sorted(seen)]

    def wait_event(self, task, kind, n=1, timeout_s=None, **members):
        """The n-th event of that kind."""
        what = f"event {n} of {kind} {members or ''}"
        return self.wait_for(lambda: (self.of(task, kind, **members)[n - 1:] or None), timeout_s, what)[0]

    def wait_state(self, task, *states, timeout_s=None):
        def look():
            moves = self.of(task, "task.state")
            return moves[-1] if moves and moves[-1]["to"] in states else None
        return self.wait_for(look, timeout_s, f"state {'|'.join(states)}")

    def journal(self, task):
        """All events by pages, as the daemon stores them."""
        events, after = [], 0
        while True:
            page = self.call("task/events", task=task, after=after)
            events += page["events"]
            if page["next"] is None:
                return events
            after = page["next"]

    def ran(self, text):
        """Live output of tools that holds the text (the arguments of calls are deltas too, and come before)."""
        return [d for d in self.deltas if d["kind"] == "run.output" and text in d["text"]]

    def live_text(self, task, kind, **members):
        """What the deltas add up to, by offset. A gap is an error, but in run.output, which may skip."""
        data = b""
        for d in list(self.deltas):
            if d["task"] != task or d["kind"] != kind or any(d.get(k) != v for k, v in members.items()):
                continue
            piece = d["text"].encode()
            assert d["offset"] <= len(data) or kind == "run.output", f"gap in deltas: have {len(data)}, got {d['offset']}"
            data = data[:d["offset"]].ljust(d["offset"], b"?") + piece
        return data.decode()
