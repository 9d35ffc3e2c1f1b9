"""What the database of a state folder holds of its tasks, read without the daemon: rows, the blocks of archived tasks, and files of large
contents. Every event and element has to be there once, wherever it stands. Blocks as migrations/0002_archive.sql describes them."""
import ctypes
import functools
import hashlib
import json
import pathlib
import sqlite3

PLAIN, ZSTD = 0, 1
HASH_SIZE = 32


def parsed(raw, memory={}):
    if raw not in memory:
        if len(memory) > 100000:
            memory.clear()
        memory[raw] = json.loads(raw)
    return memory[raw]


def digest(data):
    return hashlib.blake2b(data, digest_size=HASH_SIZE).digest()


# ---- blocks ----

def numbers(data):
    """7 bits a byte, the low ones first, the last byte below 128."""
    n = shift = 0
    for byte in data:
        n |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            yield n
            n = shift = 0


def places(data, number, pos):
    """(number, pos, length) of each content."""
    each = numbers(data)
    for ahead, length in zip(each, each):
        pos += ahead
        yield number, pos, length
        number += 1


@functools.lru_cache(maxsize=4096)
def unpacked(codec, body, size):
    if codec == PLAIN:
        return body
    zstd = ctypes.CDLL("libzstd.so.1")
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(size)
    n = zstd.ZSTD_decompress(room, ctypes.c_size_t(size), body, ctypes.c_size_t(len(body)))
    if n != size:
        raise ValueError(f"a block of {len(body)} bytes is not unpacked to {size}")
    return room.raw[:size]


class Database:
    """The rows of a state folder that nobody uses any more; `read_only`: beside a daemon."""

    def __init__(self, folder, read_only=False):
        self.folder = pathlib.Path(folder)
        self.db = sqlite3.connect(f"file:{self.folder / 'agentd.db'}?mode={'ro' if read_only else 'rwc'}", uri=True)
        self.db.text_factory = bytes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.db.close()

    def rows(self, sql, *args):
        return self.db.execute(sql, args).fetchall()

    def check(self):
        return [r[0] for r in self.rows("PRAGMA quick_check") if r[0] != b"ok"]

    def content(self, body, hash, size, wrong, what):
        """A row's own bytes, or those of its file, which have to be there with its hash."""
        if hash is None:
            return body if isinstance(body, bytes) else body.encode()
        path = self.folder / "blobs" / hash.hex()
        data = path.read_bytes() if path.exists() else None
        if data is None or len(data) != size or digest(data) != hash:
            wrong.append(f"the content of {what} is not whole in blobs/{hash.hex()}: {data and len(data)} of {size} bytes")
            return b""
        return data

    def events(self, wrong):
        """{pos: (task, seq, json)}, those of archived tasks too."""
        found = {}
        for pos, task, seq, body, hash, size in self.rows(
                "SELECT e.pos, t.id, e.seq, e.body, e.hash, e.bytes FROM events e JOIN tasks t ON t.n = e.task"):
            found[pos] = (task.decode(), seq, self.content(body, hash, size, wrong, f"event {pos}"))
        for task, seq, pos, size, codec, where, body, hash in self.rows(
                "SELECT t.id, b.seq_first, b.pos_first, b.bytes, b.codec, b.places, b.body, b.hash"
                " FROM archive_events b JOIN tasks t ON t.n = b.task"):
            for number, at, content in self._block(where, seq, pos, size, codec, body, hash, wrong, f"archived event {pos}"):
                if at in found:
                    wrong.append(f"read back: event {at} of {task.decode()} is there twice, once of {found[at][0]}")
                found[at] = (task.decode(), number, content)
        return dict(sorted(found.items()))

    def _block(self, where, number, pos, size, codec, body, hash, wrong, what):
        contents, at = self.content(unpacked(codec, body, size) if hash is None else None, hash, size, wrong, what), 0
        for number, pos, length in places(where, number, pos):
            yield number, pos, contents[at:at + length]
            at += length
        if at != size:
            wrong.append(f"read back: the block of {what} holds {size} bytes, and places for {at}")

    def prompts(self, wrong):
        """{task: bytes of the prompt of its last epoch}"""
        found = {}
        for task, epoch, idx, body, hash, size in self.rows(
                "SELECT t.id, c.epoch, c.idx, c.body, c.hash, c.bytes FROM context c JOIN tasks t ON t.n = c.task"):
            self._element(found, task.decode(), epoch, idx, self.content(body, hash, size, wrong, f"context {epoch}/{idx}"), wrong)
        for task, epoch, idx, size, codec, where, body, hash in self.rows(
                "SELECT t.id, b.epoch, b.idx_first, b.bytes, b.codec, b.places, b.body, b.hash"
                " FROM archive_context b JOIN tasks t ON t.n = b.task"):
            for number, _, content in self._block(where, idx, 0, size, codec, body, hash, wrong, f"archived context {epoch}/{idx}"):
                self._element(found, task.decode(), epoch, number, content, wrong)
        return {task: self._joined(task, epochs[max(epochs)], wrong) for task, epochs in found.items()}

    @staticmethod
    def _element(found, task, epoch, idx, content, wrong):
        elements = found.setdefault(task, {}).setdefault(epoch, {})
        if idx in elements:
            wrong.append(f"read back: element {epoch}/{idx} of the prompt of {task} is there twice")
        elements[idx] = content

    @staticmethod
    def _joined(task, elements, wrong):
        if sorted(elements) != list(range(len(elements))):
            wrong.append(f"{task}: its prompt holds the elements {sorted(elements)}")
        parts = [elements[idx] for idx in sorted(elements)]
        return parts[0] + b",".join(parts[1:])

    def named_files(self):
        """The hashes that rows and blocks name."""
        return {r[0] for table in ("events", "context", "archive_events", "archive_context")
                for r in self.rows(f"SELECT hash FROM {table} WHERE hash IS NOT NULL")}

    def leavings(self, unmarked=False):
        """How many rows, blocks and marks there are of tasks that are not. `unmarked`: that nobody will ever remove."""
        without = " AND task NOT IN (SELECT task FROM archives WHERE seq < 0)" if unmarked else ""
        return sum(self.rows(f"SELECT count(*) FROM {table} WHERE task NOT IN (SELECT n FROM tasks){without}")[0][0]
                   for table in ("archives", "archive_events", "archive_context", "events", "context", "specs"))
