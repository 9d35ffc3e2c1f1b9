"""agentd-rehearsal: sockets, HTTP, the log and the command line."""
import json
import pathlib
import socket
import subprocess
import threading
import time

from rehearsing import CHAT, PATHS, PROGRAM, RESPONSES, TIMEOUT_S, Rehearsal, body, read_response, read_until, send, user


class Http(Rehearsal):
    def setUp(self):
        super().setUp()
        self.server = self.serve({"steps": [{"say": "hello"}]})
        self.data = json.dumps(body(RESPONSES, "go")).encode()
        self.whole = (f"POST {PATHS[RESPONSES]} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(self.data)}\r\n\r\n".encode() +
                      self.data)

    def test_in_pieces_of_any_size(self):
        for step in (1, 2, 3, 7, 50):
            with self.server.connect() as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for i in range(0, len(self.whole), step):
                    s.sendall(self.whole[i:i + step])
                self.assertEqual(200, read_response(s)[0])

    def test_head_and_body_apart_and_keep_alive(self):
        with self.server.connect() as s:
            for _ in range(3):
                at = self.whole.index(b"\r\n\r\n") + 4
                s.sendall(self.whole[:at])
                s.sendall(self.whole[at:])
                status, data = read_response(s)
                self.assertEqual((200, "completed"), (status, json.loads(data)["status"]))

    def test_pipelined_requests_are_answered_in_order(self):
        count = 200
        with self.server.connect() as s:
            writer = threading.Thread(target=s.sendall, args=(self.whole * count,))
            writer.start()
            data = b""
            while data.count(b'"object":"response"') < count:
                piece = s.recv(1 << 16)
                self.assertTrue(piece)
                data += piece
            writer.join()
        numbers = [int(line.rsplit(b"-", 1)[1]) for line in data.split(b"\r\n") if line.startswith(b"X-Request-Id")]
        self.assertEqual(list(range(1, count + 1)), numbers)

    def test_chunked_request(self):
        head = f"POST {PATHS[RESPONSES]} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(self.data[i:i + 5]), self.data[i:i + 5])
                          for i in range(0, len(self.data), 5))
        message = head + chunks + b"0\r\nTrailer: x\r\n\r\n"
        for step in (1, 4, len(message)):
            with self.server.connect() as s:
                for i in range(0, len(message), step):
                    s.sendall(message[i:i + step])
                self.assertEqual(200, read_response(s)[0])

    def test_expect_continue(self):
        with self.server.connect() as s:
            at = self.whole.index(b"\r\n\r\n")
            s.sendall(self.whole[:at] + b"\r\nExpect: 100-continue\r\n\r\n")
            self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", read_until(s, b"\r\n\r\n"))
            s.sendall(self.data)
            self.assertEqual(200, read_response(s)[0])

    def test_http_1_0_and_connection_close(self):
        for head in ("HTTP/1.0\r\n", "HTTP/1.1\r\nConnection: close\r\n"):
            for stream in (False, True):
                data = json.dumps(body(RESPONSES, "go", stream=stream)).encode()
                with self.server.connect() as s:
                    s.sendall(f"POST {PATHS[RESPONSES]} {head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
                    status, answer = read_response(s)
                    self.assertEqual(200, status)
                    self.assertIn(b"completed", answer)
                    self.assertEqual(b"", s.recv(1))

    def test_what_is_no_request_is_refused_and_the_others_go_on(self):
        bad = {b"nonsense\r\n\r\n": 400, b"GET / HTTP/2.0\r\n\r\n": 505,
               b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n": 400,
               b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": 400,
               b"POST / HTTP/1.1\r\nContent-Length: 134217729\r\n\r\n": 413,
               b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n": 413,
               b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n": 501,
               b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n": 400,
               b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
               b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n": 400,
               b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFF\r\n": 413,
               b"GET / HTTP/1.1\r\n bad\r\n\r\n": 400, b"GET / HTTP/1.1\r\nA: " + b"x" * 70000: 431,
               b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n": 431}
        for data, status in bad.items():
            with self.subTest(data=data[:60]), self.server.connect() as s:
                s.sendall(data)
                got, answer = read_response(s)
                self.assertEqual(status, got)
                self.assertTrue(json.loads(answer)["error"]["message"])
                self.assertEqual(b"", s.recv(1))
        self.assertEqual("hello", self.server.said(RESPONSES, "go"))

    def test_unknown_paths(self):
        for method, path in (("GET", "/"), ("GET", "/v1/responses"), ("POST", "/v1/models"), ("POST", "/v1/messages")):
            status, _, data = self.server.request(method, path, b"{}" if method == "POST" else None)
            self.assertEqual(404, status)
            self.assertIn("/v1/responses", json.loads(data)["error"]["message"])
        self.assertEqual(200, self.server.request("POST", "/v1/responses?x=1", self.data)[0])

    def test_a_large_request(self):
        self.assertEqual("hello", self.server.said(RESPONSES, "x" * (20 << 20)))

    def test_half_requests_disturb_no_one(self):
        halves = [self.server.connect() for _ in range(50)]
        try:
            for i, s in enumerate(halves):
                s.sendall(self.whole[:i])
            self.assertEqual("hello", self.server.said(RESPONSES, "go"))
            for i, s in enumerate(halves):
                s.sendall(self.whole[i:])
            for s in halves:
                self.assertEqual(200, read_response(s)[0])
        finally:
            for s in halves:
                s.close()


class Many(Rehearsal):
    def test_a_thousand_streams_at_once(self):
        server = self.serve({"steps": [{"say": "one two three four five six", "delay_ms": 1500, "pace_ms": 20}]})
        clients = []
        try:
            for i in range(1000):
                s = server.connect()
                clients.append(s)
                send(s, RESPONSES if i % 2 else CHAT, body(RESPONSES if i % 2 else CHAT, [user(f"{i}")], stream=True))
            for i, s in enumerate(clients):
                status, data = read_response(s)
                self.assertEqual(200, status)
                self.assertIn(b"response.completed" if i % 2 else b"[DONE]", data)
        finally:
            for s in clients:
                s.close()
        self.assertEqual(1000, len(server.log()))

    def test_a_client_that_leaves_is_noticed_at_once(self):
        server = self.serve({"steps": [{"say": "word " * 10, "fault": {"stall_ms": 600000}}]})
        with server.connect() as s:
            send(s, RESPONSES, body(RESPONSES, "go", stream=True))
            read_until(s, b"output_text.delta")
        began = time.monotonic()
        while not server.log("client_gone"):
            self.assertLess(time.monotonic() - began, TIMEOUT_S)
            time.sleep(0.01)
        self.assertEqual(1, server.log("client_gone")[0]["number"])
        self.assertGreater(server.log("client_gone")[0]["sent_bytes"], 0)

    def test_a_client_that_does_not_read(self):
        server = self.serve({"steps": [{"say": "x " * 2000000}]})
        with server.connect() as slow:
            send(slow, RESPONSES, body(RESPONSES, "go", stream=True))
            slow.recv(1)
            self.assertEqual(404, server.request("GET", "/")[0])
            data = read_until(slow, b"0\r\n\r\n")
            self.assertIn(b"response.completed", data)


class Log(Rehearsal):
    def test_one_line_a_request_and_no_key(self):
        server = self.serve({"steps": [{"fault": {"status": 500}}, {"say": "a"}]}, "--bodies", self.dir)
        for _ in range(2):
            server.post(RESPONSES, "go", headers={"Authorization": "Bearer sk-secret", "X-Other": "seen"})
        lines = server.log()
        self.assertEqual([500, 200], [line["status"] for line in lines])
        self.assertEqual(["status", None], [line["fault"] for line in lines])
        self.assertEqual([(RESPONSES, 0, "seen")] * 2, [(x["wire"], x["step"], x["headers"]["X-Other"]) for x in lines])
        self.assertNotIn("sk-secret", server.log_path.read_text())
        kept = (pathlib.Path(self.dir) / "000002.json").read_bytes()
        self.assertEqual(body(RESPONSES, "go"), json.loads(kept))
        self.assertEqual(len(kept), lines[1]["request_bytes"])


class CommandLine(Rehearsal):
    def run_it(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)

    def bad(self, script, line, part):
        path = pathlib.Path(self.dir) / "bad.yaml"
        path.write_text(script)
        done = self.run_it("--script", path)
        self.assertEqual((2, ""), (done.returncode, done.stdout), done.stderr)
        self.assertTrue(done.stderr.startswith(f"agentd-rehearsal: {path}:{line}: "), done.stderr)
        self.assertIn(part, done.stderr)
        self.assertEqual(1, done.stderr.count("\n"))

    def test_bad_scripts_say_the_line(self):
        self.bad("", 1, "empty")
        self.bad("steps: []\n", 1, "empty")
        self.bad("usage: {}\n", 1, "steps")
        self.bad("steps:\n  - say: a\n  - sya: b\n", 3, "sya")
        self.bad("steps:\n  - say: a\nstps: 1\n", 3, "stps")
        self.bad("steps:\n  - say: [a]\n", 2, "must be a text")
        self.bad("steps:\n  - say: a\n    say: b\n", 3, "twice")
        self.bad("steps:\n  - delay_ms: 3\n", 2, "needs say")
        self.bad("steps:\n  - say: a\n    delay_ms: -1\n", 3, "from 0")
        self.bad("steps:\n  - say: a\n    delay_ms: soon\n", 3, "whole number")
        self.bad("steps:\n  - say: a\n    repeat: 0\n", 3, "repeat")
        self.bad("steps:\n  - say: a\n    phase: x\n", 3, "phase")
        self.bad("steps:\n  - call: {arguments: {}}\n", 2, "names its tool")
        self.bad("steps:\n  - call: {tool: t, arguments: '{}'}\n", 2, "raw_arguments")
        self.bad("steps:\n  - call: {tool: t, arguments: {}, raw_arguments: x}\n", 2, "not both")
        self.bad("steps:\n  - call: {tool: t}\n    calls: [{tool: u}]\n", 3, "not both")
        self.bad("steps:\n  - say: a\n    expect: {last_output_matches: '('}\n", 3, "regular expression")
        self.bad("steps:\n  - say: a\n    expect: {output: x}\n", 3, "output")
        self.bad("steps:\n  - fault: {}\n", 2, "needs status")
        self.bad("steps:\n  - fault: {status: 200}\n", 2, "from 400")
        self.bad("steps:\n  - fault: {status: 500, stall_ms: 3}\n", 2, "no stream")
        self.bad("steps:\n  - fault: {stall_ms: 3}\n    delay_ms: 3\n", 2, "no other key")
        self.bad("steps:\n  - fault: {status: 500}\n  - fault: {status: 50}\n", 3, "from 400")
        self.bad("steps:\n  - say: \"a\n", 3, "not valid YAML")
        self.bad("steps:\n  - say: a\n---\nx: y\n", 4, "second document")
        self.bad('{"steps": [\n  {"say": "a"},\n  {"say": 1, "x": 2}]}', 3, '"x"')
        deep = "[" * 100 + "]" * 100
        self.bad("steps:\n  - call: {tool: t, arguments: {a: %s}}\n" % deep, 2, "deeply")
        bomb = "steps:\n  - call:\n      tool: t\n      arguments:\n        a: &a [xxxxxxxxxxxxxxxx, xxxxxxxxxxxxxxxx]\n"
        for name, before in zip("bcdefghijklmnopqrst", "abcdefghijklmnopqrs"):
            bomb += f"        {name}: &{name} [*{before}, *{before}, *{before}]\n"
        self.bad(bomb, 6, "bytes of JSON")

    def test_check_reads_only(self):
        path = pathlib.Path(self.dir) / "good.yaml"
        path.write_text("steps: [{say: hi}]\n")
        done = self.run_it("--script", path, "--check")
        self.assertEqual((0, "", ""), (done.returncode, done.stdout, done.stderr))

    def test_json_with_escapes(self):
        server = self.serve('{"steps": [{"say": "\\ud83d\\ude00\\u0000\\/\\\\ud83d \\u00e9"}]}')
        self.assertEqual("😀\0/\\ud83d é", server.said(RESPONSES, "go"))

    def test_usage_errors(self):
        path = pathlib.Path(self.dir) / "good.yaml"
        path.write_text("steps: [{say: hi}]\n")
        for arguments, part in (((), "--script"), (("--script", self.dir + "/none"), "none"), (("--nonsense",), "--help"),
                                (("--script", path, "extra"), "extra"), (("--script", path, "--wire", "x"), "--wire"),
                                (("--script", path, "--listen", "0.0.0.0:0"), "loopback"),
                                (("--script", path, "--listen", "[::]:0"), "loopback"),
                                (("--script", path, "--listen", "10.1.2.3:80"), "loopback"),
                                (("--script", path, "--listen", "127.0.0.1"), "ADDRESS:PORT"),
                                (("--script", path, "--listen", "127.0.0.1:70000"), "ADDRESS:PORT")):
            done = self.run_it(*arguments)
            self.assertEqual((2, ""), (done.returncode, done.stdout), done.stderr)
            self.assertIn(part, done.stderr)

    def test_a_taken_port(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            path = pathlib.Path(self.dir) / "good.yaml"
            path.write_text("steps: [{say: hi}]\n")
            done = self.run_it("--script", path, "--listen", f"127.0.0.1:{s.getsockname()[1]}")
        self.assertEqual(1, done.returncode)
        self.assertIn("cannot listen", done.stderr)

    def test_help_names_every_key(self):
        done = self.run_it("--help")
        self.assertEqual(0, done.returncode)
        for word in ("say", "call", "calls", "expect", "last_output_matches", "any_output_matches", "last_user_matches",
                     "request_matches", "delay_ms", "pace_ms", "repeat", "{k}", "fault", "retry_after_s", "times",
                     "cut_after_bytes", "stall_ms", "malformed", "usage", "reasoning", "phase", "raw_arguments", "finish"):
            self.assertIn(word, done.stdout)
