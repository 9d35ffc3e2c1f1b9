"""What the tests of agentd-rehearsal share: a server with a script, and requests as clients build them. Standard library only."""
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ.get("AGENTD_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build-test"))
PROGRAM = BUILD / "daemon" / "rehearsal" / "agentd-rehearsal"
TIMEOUT_S = 60
RESPONSES, CHAT = "openai-responses", "openai-chat"
PATHS = {RESPONSES: "/v1/responses", CHAT: "/v1/chat/completions"}


def user(text):
    return {"role": "user", "content": text}


def responses_turn(text=None, calls=(), outputs=(), reasoning=None):
    """What a client appends after one assistant turn: the items of the answer, then the outputs of its calls."""
    items = []
    if reasoning:
        items.append({"type": "reasoning", "id": "rs_x", "summary": [{"type": "summary_text", "text": reasoning}]})
    if text is not None:
        items.append({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
    items += [{"type": "function_call", "call_id": c, "name": "exec_command", "arguments": "{}"} for c in calls]
    return items + [{"type": "function_call_output", "call_id": c, "output": o} for c, o in zip(calls, outputs)]


def chat_turn(text=None, calls=(), outputs=(), reasoning=None):
    message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [{"id": c, "type": "function", "function": {"name": "exec_command", "arguments": "{}"}}
                                 for c in calls]
    return [message] + [{"role": "tool", "tool_call_id": c, "content": o} for c, o in zip(calls, outputs)]


def turn(wire, **parts):
    return responses_turn(**parts) if wire == RESPONSES else chat_turn(**parts)


def body(wire, items, **more):
    return {"model": "m", ("input" if wire == RESPONSES else "messages"): items, **more}


def events(wire, data):
    """The events of a stream, in the strict form that providers use."""
    text = data.decode()
    assert text.endswith("\n\n"), text[-80:]
    found = []
    for block in text[:-2].split("\n\n"):
        lines = block.split("\n")
        if wire == RESPONSES:
            assert len(lines) == 2 and lines[0].startswith("event: "), block
            event = json.loads(lines[1].removeprefix("data: "))
            assert event["type"] == lines[0].removeprefix("event: ")
        else:
            assert len(lines) == 1 and lines[0].startswith("data: "), block
            event = lines[0].removeprefix("data: ")
            event = event if event == "[DONE]" else json.loads(event)
        found.append(event)
    return found


class Server:
    def __init__(self, case, script, *options):
        self.dir = pathlib.Path(case.dir)
        self.script = self.dir / "script.yaml"
        self.script.write_text(script if isinstance(script, str) else json.dumps(script))
        self.log_path = self.dir / "log.jsonl"
        self.process = subprocess.Popen([PROGRAM, "--script", self.script, "--log", self.log_path, *options],
                                        stdout=subprocess.PIPE, text=True)
        case.addCleanup(self.stop, case)
        line = self.process.stdout.readline()
        case.assertRegex(line, r"^listening on http://127\.0\.0\.1:\d+\n$")
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self, case):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        case.assertEqual(0, self.process.wait(TIMEOUT_S))
        self.process.stdout.close()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)

    def request(self, method, path, data=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def post(self, wire, items, **more):
        headers = more.pop("headers", {})
        return self.request("POST", PATHS[wire], json.dumps(body(wire, items, **more)), headers)

    def ask(self, wire, items, **more):
        """A plain document; must succeed."""
        status, _, data = self.post(wire, items, **more)
        assert status == 200, data
        return json.loads(data)

    def said(self, wire, items, **more):
        answer = self.ask(wire, items, **more)
        if wire == CHAT:
            return answer["choices"][0]["message"]["content"]
        return "".join(p["text"] for i in answer["output"] if i["type"] == "message" for p in i["content"])

    def error(self, wire, items, **more):
        status, headers, data = self.post(wire, items, **more)
        return status, headers, json.loads(data)["error"]

    def log(self, event="request"):
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]


class Rehearsal(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="rehearsal-")
        self.addCleanup(folder.cleanup)
        self.dir = folder.name

    def serve(self, script, *options):
        return Server(self, script, *options)

    def both(self):
        for wire in (RESPONSES, CHAT):
            with self.subTest(wire=wire):
                yield wire


def send(s, wire, payload, head=""):
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    s.sendall(f"POST {PATHS[wire]} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n{head}\r\n".encode() + data)


def read_until(s, mark):
    data = b""
    while mark not in data:
        piece = s.recv(1 << 16)
        if not piece:
            raise AssertionError(f"the connection ended before {mark!r}: {data[-300:]!r}")
        data += piece
    return data


def read_response(s):
    response = http.client.HTTPResponse(s)
    response.begin()
    return response.status, response.read()
