"""A scripted model server of the tests' own: speaks both wires, remembers every request byte by byte, and can stop in the
middle of an answer until the test says go. Deliberately not agentd-rehearsal: it judges the daemon's requests itself."""
import json
import select
import socket
import threading
import time

USAGE = {"input_tokens": 1200, "cached_input_tokens": 1000, "output_tokens": 30, "reasoning_tokens": 10}


# The tools' arguments by their names, in one place.
def call(tool, **arguments):
    return (tool, arguments)


def sh(cmd, yield_ms=None, limit=None, **more):
    """exec_command; `limit` is in tokens."""
    return ("exec_command", dict(cmd=cmd, **more, **waits(yield_ms, limit)))


def stdin(session, chars="", yield_ms=None, limit=None):
    return ("write_stdin", dict(session_id=session, chars=chars, **waits(yield_ms, limit)))


def waits(yield_ms, limit):
    return dict({} if yield_ms is None else {"yield_time_ms": yield_ms}, **({} if limit is None else {"max_output_tokens": limit}))


def patch(text):
    return ("apply_patch", {"input": text})


def plan(*entries):
    return ("update_plan", {"plan": [{"step": text, "status": status} for text, status in entries]})


def image(path):
    return ("view_image", {"path": str(path)})


def wait(**conditions):
    return ("wait", conditions)


class Request:
    def __init__(self, line, headers, body):
        self.method, self.path, _ = line.split(" ", 2)
        self.headers, self.body, self.at = headers, body, time.monotonic()
        self.closed = threading.Event()  # the client hung up before the answer was whole
        self.done = threading.Event()    # the answer was sent to its end
        self.json = json.loads(body) if body else None

    @property
    def wire(self):
        return "openai-chat" if self.path.endswith("/chat/completions") else "openai-responses"

    @property
    def items(self):
        return self.json["messages" if self.wire == "openai-chat" else "input"]

    def outputs(self):
        """Texts of the tool outputs, in order."""
        if self.wire == "openai-chat":
            found = [i["content"] for i in self.items if i["role"] == "tool"]
        else:
            found = [i["output"] for i in self.items if i.get("type") == "function_call_output"]
        return [o if isinstance(o, str) else "".join(p.get("text", "") for p in o) for o in found]

    def output_ids(self):
        if self.wire == "openai-chat":
            return [i["tool_call_id"] for i in self.items if i["role"] == "tool"]
        return [i["call_id"] for i in self.items if i.get("type") == "function_call_output"]

    def texts(self, role="user"):
        """Texts of the messages of a role."""
        found = []
        for item in self.items:
            if item.get("role") == role:
                content = item["content"]
                found.append(content if isinstance(content, str) else "".join(p.get("text", "") for p in content or ()))
        return found


class ModelServer:
    """`steps`: one dict (or function of the request giving one) per request, in order of arrival; `by_turn` takes the step by
    the number of assistant turns in the request instead, for several tasks at once.

    say, calls [(tool, arguments)], reasoning, usage, phase · gate (Event: nothing is sent before) · mid (Event: waits after half
    of `say`) · pieces (into how many `say` is cut) · status, headers, body (an answer that is no stream) · cut (hangs up half-way) ·
    stall (sends half and no more) · raw (bytes of the stream as they are) · reset (closes at once)"""

    def __init__(self, steps, by_turn=False):
        self.steps, self.by_turn = steps, by_turn
        self.requests, self.problems = [], []
        self.changed = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.stopping = False
        self.sockets = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self):
        self.stopping = True
        self.listener.close()
        for s in list(self.sockets):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def wait_requests(self, n, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while len(self.requests) < n:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"only {len(self.requests)} of {n} requests came")
                self.changed.wait(left)
            return self.requests[n - 1]

    # ---- serving ----

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets.add(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            with conn, conn.makefile("rb") as stream:
                while (request := self._read(stream)) and self._answer(conn, request):
                    pass
        except (OSError, ValueError) as e:
            if not self.stopping and not isinstance(e, (ConnectionError, BrokenPipeError)):
                self.problems.append(f"{type(e).__name__}: {e}")
        finally:
            self.sockets.discard(conn)

    def _read(self, stream):
        line = stream.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            return None
        headers = {}
        while header := stream.readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = header.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect"):
            raise ValueError("an Expect header costs a round trip")
        return Request(line, headers, stream.read(int(headers.get("content-length", "0"))))

    def _step(self, request):
        with self.changed:
            index = len(self.requests)
            if self.by_turn:
                index = assistant_turns(request)
            self.requests.append(request)
            self.changed.notify_all()
            step = self.steps(request) if callable(self.steps) else None
            if step is None and index < len(self.steps):
                step = self.steps[index]
        if callable(step):
            step = step(request)
        if step is None:
            self.problems.append(f"request {index + 1} came, but the script has {len(self.steps)} steps")
            step = {"status": 400, "body": '{"error":{"message":"the script is at its end"}}'}
        return step

    def _answer(self, conn, request):
        step = self._step(request)
        if not self._hold(conn, request, step.get("gate")):
            return False
        if step.get("reset"):
            return False
        if "status" in step:
            return self._plain(conn, request, step)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        events = [step["raw"]] if "raw" in step else list(render(request, step, len(self.requests)))
        for i, event in enumerate(events):
            if event is HALF:
                if not self._middle(conn, request, step):
                    return False
                continue
            try:
                conn.sendall(b"%x\r\n%s\r\n" % (len(event), event) if event else b"")
            except OSError:
                request.closed.set()
                return False
        conn.sendall(b"0\r\n\r\n")
        request.done.set()
        return True

    def _plain(self, conn, request, step):
        body = step.get("body", '{"error":{"message":"a scripted failure","type":"server_error"}}').encode()
        head = [f"HTTP/1.1 {step['status']} Scripted", f"Content-Length: {len(body)}", "Content-Type: application/json"]
        head += [f"{k}: {v}" for k, v in step.get("headers", {}).items()]
        conn.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        request.done.set()
        return True

    def _middle(self, conn, request, step):
        if step.get("cut"):
            return False
        gate = threading.Event() if step.get("stall") else step.get("mid")
        return self._hold(conn, request, gate)

    def _hold(self, conn, request, gate):
        """Waits for the gate; false if the client hangs up meanwhile (or the test is over)."""
        while gate is not None and not gate.wait(0.01):
            readable, _, _ = select.select([conn], [], [], 0)
            if readable:
                try:
                    data = conn.recv(1, socket.MSG_PEEK)
                except OSError:
                    data = b""
                if not data:
                    request.closed.set()
                    return False
            if self.stopping:
                return False
        return True


HALF = object()


def assistant_turns(request):
    turns, inside = 0, False
    for item in request.items:
        assistant = item.get("role") == "assistant" or item.get("type") in ("function_call", "reasoning")
        turns += assistant and not inside
        inside = assistant
    return turns


def sse(data, event=None):
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def pieces(text, n):
    size = max(1, -(-len(text) // n))
    return [text[i:i + size] for i in range(0, len(text), size)]


def arguments_text(arguments):
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def with_half(parts, step):
    """Puts the half-way mark into the middle if the step stops there."""
    if any(step.get(k) for k in ("mid", "cut", "stall")):
        parts.insert((len(parts) + 1) // 2, HALF)
    return parts


def render(request, step, number):
    return (render_chat if request.wire == "openai-chat" else render_responses)(request, step, number)


def render_responses(request, step, number):
    base = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": "test-model", "output": []}
    yield sse({"type": "response.created", "response": dict(base, status="in_progress")}, "response.created")
    output = []
    if step.get("reasoning"):
        item = {"type": "reasoning", "id": f"rs_{number}", "encrypted_content": f"opaque+{number}/=",
                "summary": [{"type": "summary_text", "text": step["reasoning"]}]}
        yield sse({"type": "response.output_item.added", "output_index": 0, "item": dict(item, summary=[])})
        yield sse({"type": "response.reasoning_summary_part.added", "item_id": item["id"], "output_index": 0,
                   "summary_index": 0, "part": {"type": "summary_text", "text": ""}})
        yield sse({"type": "response.reasoning_summary_text.delta", "item_id": item["id"], "output_index": 0,
                   "summary_index": 0, "delta": step["reasoning"]})
        yield sse({"type": "response.reasoning_summary_text.done", "item_id": item["id"], "output_index": 0,
                   "summary_index": 0, "text": step["reasoning"]})
        yield sse({"type": "response.output_item.done", "output_index": 0, "item": item})
        output.append(item)
    if step.get("say"):
        item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": step["say"], "annotations": []}]}
        if step.get("phase"):
            item["phase"] = step["phase"]
        at = {"item_id": item["id"], "output_index": len(output), "content_index": 0}
        yield sse({"type": "response.output_item.added", "output_index": len(output),
                   "item": dict(item, status="in_progress", content=[])})
        yield sse(dict(at, type="response.content_part.added", part={"type": "output_text", "text": "", "annotations": []}))
        parts = [sse(dict(at, type="response.output_text.delta", delta=p)) for p in pieces(step["say"], step.get("pieces", 4))]
        yield from with_half(parts, step)
        yield sse(dict(at, type="response.output_text.done", text=step["say"]))
        yield sse(dict(at, type="response.content_part.done", part=item["content"][0]))
        yield sse({"type": "response.output_item.done", "output_index": len(output), "item": item})
        output.append(item)
    for i, (tool, arguments) in enumerate(step.get("calls", ())):
        text = arguments_text(arguments)
        item = {"type": "function_call", "id": f"fc_{number}_{i}", "call_id": f"call_{number}_{i}", "name": tool,
                "arguments": text, "status": "completed"}
        at = {"item_id": item["id"], "output_index": len(output)}
        yield sse({"type": "response.output_item.added", "output_index": len(output),
                   "item": dict(item, arguments="", status="in_progress")})
        for piece in pieces(text, 3):
            yield sse(dict(at, type="response.function_call_arguments.delta", delta=piece))
        yield sse(dict(at, type="response.function_call_arguments.done", arguments=text))
        yield sse({"type": "response.output_item.done", "output_index": len(output), "item": item})
        output.append(item)
    usage = dict(USAGE, **step.get("usage", {}))
    yield sse({"type": "response.completed", "response": dict(base, status="completed", output=output, usage={
        "input_tokens": usage["input_tokens"], "input_tokens_details": {"cached_tokens": usage["cached_input_tokens"]},
        "output_tokens": usage["output_tokens"], "output_tokens_details": {"reasoning_tokens": usage["reasoning_tokens"]},
        "total_tokens": usage["input_tokens"] + usage["output_tokens"]})}, "response.completed")


def render_chat(request, step, number):
    base = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1, "model": "test-model"}

    def chunk(delta, finish=None):
        return sse(dict(base, choices=[{"index": 0, "delta": delta, "finish_reason": finish}]))

    yield chunk({"role": "assistant", "content": ""})
    parts = [chunk({"content": p}) for p in pieces(step.get("say", ""), step.get("pieces", 4))]
    yield from with_half(parts, step)
    for i, (tool, arguments) in enumerate(step.get("calls", ())):
        yield chunk({"tool_calls": [{"index": i, "id": f"call_{number}_{i}", "type": "function",
                                     "function": {"name": tool, "arguments": ""}}]})
        for piece in pieces(arguments_text(arguments), 3):
            yield chunk({"tool_calls": [{"index": i, "function": {"arguments": piece}}]})
    yield chunk({}, "tool_calls" if step.get("calls") else "stop")
    usage = dict(USAGE, **step.get("usage", {}))
    yield sse(dict(base, choices=[], usage={
        "prompt_tokens": usage["input_tokens"], "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": usage["cached_input_tokens"]},
        "completion_tokens_details": {"reasoning_tokens": usage["reasoning_tokens"]}}))
    yield sse("[DONE]")
