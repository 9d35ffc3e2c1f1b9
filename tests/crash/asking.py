"""A client for one short visit: it asks, and reads every event that there is, as bytes."""
import json
import socket

from history import event_of


SILENCE_S = 15  # after which nothing more is told


class Asking:
    def __init__(self, path, deadline_s):
        self.socket, self.rest, self.id = socket.socket(socket.AF_UNIX), b"", 0
        self.told = []  # (pos, (task, seq, json)) in order of arrival
        self.socket.settimeout(deadline_s)
        self.socket.connect(str(path))
        self.call("initialize", protocol=1, client={"name": "aftermath", "version": "1"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def call(self, method, **params):
        self.id += 1
        self.socket.sendall(json.dumps({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}).encode() + b"\n")
        while True:
            line = self._line()
            if self._event(line):
                continue
            reply = json.loads(line)
            if "result" not in reply:
                raise ValueError(f"{method}: {reply}")
            return reply["result"]

    def tasks(self):
        """All of them, {id: view}."""
        found, after = {}, None
        while True:
            page = self.call("task/list", all=True, **({"after": after} if after else {}))
            found.update({t["id"]: t for t in page["tasks"]})
            after = page["next"]
            if not after:
                return found

    def read_all(self, seqs):
        """Every event from the first on, until each of these tasks has come to its seq; what is missing then."""
        self.socket.settimeout(SILENCE_S)
        self.call("events/subscribe", after_pos=0)
        left = dict(seqs)
        for _, (task, seq, _) in self.told:
            if seq >= left.get(task, seq + 1):
                del left[task]
        try:
            while left:
                _, (task, seq, _) = self._event(self._line())
                if seq >= left.get(task, seq + 1):
                    del left[task]
        except TimeoutError:
            pass
        return left

    def _event(self, line):
        event = event_of(line)
        if event:
            self.told.append(event)
        return event

    def _line(self):
        while b"\n" not in self.rest:
            got = self.socket.recv(1 << 20)
            if not got:
                raise ValueError("the daemon hung up")
            self.rest += got
        line, _, self.rest = self.rest.partition(b"\n")
        return line
