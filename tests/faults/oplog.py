"""The log that tests/faults/interpose fills: made, read, and used to end a program between two of its changes."""
import mmap
import os
import pathlib
import struct
import time

HEAD, RECORD = 4096, struct.Struct("<IBBHIIIIQQq")
CREATE, LINK, RENAME, UNLINK, WRITE, TRUNCATE, ALLOCATE, SYNC_BEGIN, SYNC, SEND, SPAWN, OPEN, READ = range(1, 14)
NAMES = ("", "create", "link", "rename", "unlink", "write", "truncate", "allocate", "sync-begin", "sync", "send", "spawn", "open", "read")
USED, MATCHED, FIRED, DIE, LIFTED = 16, 24, 32, 40, 48
ROOM = 4 << 30  # as large as it may grow: a hole


class Record:
    """One change. `pos`: where it begins in the log; `end`: where the next one does. Both count as moments."""
    __slots__ = ("pos", "end", "op", "program", "pid", "file", "file2", "at", "name", "name2", "data")

    def __repr__(self):
        size = f" {len(self.data)} bytes" if len(self.data) else ""
        return f"{self.program} {NAMES[self.op]} {self.name} {self.name2} {self.file}/{self.file2} at {self.at}{size}"


class Log:
    def __init__(self, path, make=True):
        self.path = pathlib.Path(path)
        if make:
            with open(self.path, "wb") as f:
                f.truncate(ROOM)
        fd = os.open(self.path, os.O_RDWR)
        self.map = mmap.mmap(fd, ROOM, access=mmap.ACCESS_WRITE)
        os.close(fd)

    def number(self, at):
        return struct.unpack_from("<Q", self.map, at)[0]

    def put(self, at, value):
        struct.pack_into("<Q", self.map, at, value)

    @property
    def used(self):
        return max(self.number(USED), HEAD)

    def kill(self, process, timeout_s=60):
        """SIGKILL between two changes of this process; it has to be about to make one. None: it did not in that time."""
        self.put(DIE, process.pid)
        try:
            return process.wait(timeout_s)
        finally:
            self.put(DIE, 0)

    def die(self, pid, timeout_s=1):
        """The same for any process. Whether it was about to make one in that time."""
        self.put(DIE, pid)
        deadline = time.monotonic() + timeout_s
        while self.number(DIE) == pid and time.monotonic() < deadline:
            time.sleep(0.001)
        died = self.number(DIE) != pid
        self.put(DIE, 0)
        return died

    def records(self, begin=HEAD, end=None):
        pos, end = begin, end or self.used
        while pos < end:
            r = Record()
            size, r.op, program, _, r.pid, name_n, name2_n, data_n, r.file, r.file2, r.at = RECORD.unpack_from(self.map, pos)
            at = pos + RECORD.size
            r.program = chr(program)
            r.name = self.map[at:at + name_n].decode()
            r.name2 = self.map[at + name_n:at + name_n + name2_n].decode()
            at += name_n + name2_n
            r.data = self.map[at:at + data_n]
            r.pos, r.end = pos, pos + size
            yield r
            pos = r.end

    def close(self, remove=True):
        self.map.close()
        if remove:
            self.path.unlink()


def environment(build, log, root, boot_id=None, fail=None, census=False, sync_us=None):
    """What puts the interposer in front of a program of that build folder, with sanitizers or without."""
    env = {"LD_PRELOAD": str(build / "tests" / "faults" / "interpose.so")}
    if log:
        env.update(AGENTD_IO_LOG=str(log.path), AGENTD_IO_ROOT=os.path.realpath(root))
    if boot_id:
        env["AGENTD_IO_BOOT_ID"] = boot_id
    if fail:
        env["AGENTD_IO_FAIL"] = fail
    if sync_us is not None:
        env["AGENTD_IO_SYNC_US"] = str(sync_us)
    if census:
        env["AGENTD_IO_CENSUS"] = "1"
    return env


def wait_growth(log, n, timeout_s, over=lambda: False):
    """Until so many bytes more were recorded, or `over`."""
    until, deadline = log.used + n, time.monotonic() + timeout_s
    while log.used < until and not over() and time.monotonic() < deadline:
        time.sleep(0.002)
