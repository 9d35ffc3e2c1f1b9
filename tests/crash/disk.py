"""What a disk may hold when the power goes: a model of files and folders that is fed with the recorded changes (tests/faults/oplog.py), one
after the other, and can be asked at any moment for states that fsync(2) allows.

What lasts: the data and size of a file that were written before an fsync or fdatasync of that file began that has ended; the names in a
folder that were changed before an fsync of that folder began that has ended. Everything else is open: each page (or sector) of a file may
hold what it held at any time since, its size may be any of those since, each name may be as it was or as it became. A rename is done or
not done, never half.

Two sorts of disks: `strict` promises no more than that; `journal` (as ext4 does) makes changes of names last in the order in which they
were made, all of those before any fsync that has ended; data is as open as with the other."""
import os
import random
import stat

from oplog import ALLOCATE, CREATE, LINK, RENAME, SYNC, TRUNCATE, UNLINK, WRITE

PAGE, SECTOR = 4096, 512


class File:
    """`durable`: what lasts. `pending`: (pos, at, data) of writes and (pos, size, None) of changes of the size since."""

    def __init__(self, kind, data=b""):
        self.kind, self.durable, self.pending = kind, bytearray(data), []

    def write(self, pos, at, data):
        self.pending.append((pos, at, data))

    def sync(self, before):
        """All that was pending before that moment lasts."""
        n = 0
        while n < len(self.pending) and self.pending[n][0] < before:
            apply(self.durable, self.pending[n])
            n += 1
        del self.pending[:n]

    def now(self):
        image = bytearray(self.durable)
        for change in self.pending:
            apply(image, change)
        return image


def apply(image, change):
    _, at, data = change
    if data is None:
        if at < len(image):
            del image[at:]
        else:
            image.extend(bytes(at - len(image)))
    else:
        if at > len(image):
            image.extend(bytes(at - len(image)))
        image[at:at + len(data)] = data


class Folder:
    kind = "folder"

    def __init__(self):
        self.names, self.durable = {}, {}  # name -> File or Folder: now; what lasts


class Disk:
    def __init__(self, root):
        """Takes what is there as lasting."""
        self.root, self.by_number, self.names = Folder(), {}, []  # names: [(pos, [(folder, name, thing or None)])] that are open
        self.journal_synced = 0
        self._scan(root, self.root)

    def _scan(self, path, folder):
        self.by_number[os.stat(path).st_ino] = folder
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                thing = Folder()
                self._scan(entry.path, thing)
            else:
                sort = entry.stat(follow_symlinks=False).st_mode
                thing = File("socket") if stat.S_ISSOCK(sort) else File("file", open(entry.path, "rb").read())
                self.by_number[entry.inode()] = thing
            folder.names[entry.name] = folder.durable[entry.name] = thing

    # ---- changes ----

    def take(self, r):
        if r.op == WRITE:
            self.by_number[r.file].write(r.pos, r.at, r.data)
        elif r.op == TRUNCATE:
            self.by_number[r.file].write(r.pos, r.at, None)
        elif r.op == ALLOCATE:
            self._allocate(r)
        elif r.op == SYNC:
            self._sync(r)
        elif r.op == CREATE:
            self._create(r)
        elif r.op == LINK:
            self._name(r.pos, (self.by_number[r.file], r.name, self.by_number[r.file2]))
        elif r.op == UNLINK:
            self._name(r.pos, (self.by_number[r.file], r.name, None))
        elif r.op == RENAME:
            one, other = self.by_number[r.file], self.by_number[r.file2]
            self._name(r.pos, (one, r.name, None), (other, r.name2, one.names[r.name]))

    def _allocate(self, r):
        """Without data: a reserve is not worth its bytes in every state."""

    def _create(self, r):
        if stat.S_ISDIR(r.at):
            thing = Folder()
        else:
            thing = File("socket" if stat.S_ISSOCK(r.at) else "link" if stat.S_ISLNK(r.at) else "file")
        self.by_number[r.file2] = thing
        self._name(r.pos, (self.by_number[r.file], r.name, thing))

    def _name(self, pos, *entries):
        for folder, name, thing in entries:
            put_name(folder.names, name, thing)
        self.names.append((pos, entries))

    def _sync(self, r):
        thing = self.by_number[r.file]
        self.journal_synced = max(self.journal_synced, r.at)
        if thing.kind != "folder":
            return thing.sync(r.at)
        left = []
        for pos, entries in self.names:
            if pos < r.at and any(folder is thing for folder, _, _ in entries):
                for folder, name, target in entries:
                    put_name(folder.durable, name, target)
            else:
                left.append((pos, entries))
        self.names = left

    # ---- states ----

    def state(self, choice):
        """{path: bytes, or None for a folder, or "socket"} as `choice` has it: see Choice."""
        kept = [entries for pos, entries in self.names if choice.name(self, pos)]
        found, changed = {}, {}
        for entries in kept:
            for folder, name, thing in entries:
                names = changed.setdefault(id(folder), dict(folder.durable))
                put_name(names, name, thing)
        images = {}
        self._walk(self.root, "", changed, choice, images, found)
        return found

    def _walk(self, folder, path, changed, choice, images, found):
        for name, thing in sorted(changed.get(id(folder), folder.durable).items()):
            at = f"{path}/{name}" if path else name
            if thing.kind == "folder":
                found[at] = None
                self._walk(thing, at, changed, choice, images, found)
            elif thing.kind == "socket":
                found[at] = "socket"
            else:
                if id(thing) not in images:
                    images[id(thing)] = bytes(choice.content(thing))
                found[at] = images[id(thing)]

    def now(self):
        """What is there if no power goes."""
        return self.state(Choice())

    def open_changes(self):
        """How many things may be one way or the other."""
        return len(self.names) + sum(len(t.pending) for t in set(self.by_number.values()) if t.kind != "folder")


def put_name(names, name, thing):
    if thing is None:
        names.pop(name, None)
    else:
        names[name] = thing


# ---- choices ----

class Choice:
    """Everything was written in time: the prefix."""
    kind = "prefix"

    def name(self, disk, pos):
        return True

    def content(self, file):
        return file.now() if file.pending else file.durable


class Nothing(Choice):
    """Nothing but what must last."""
    kind = "only what was synced"

    def name(self, disk, pos):
        return False

    def content(self, file):
        return file.durable


class Some(Choice):
    """Each open thing with some probability; pages or sectors as they were at some moment since."""

    def __init__(self, seed, ordered=False, unit=PAGE):
        self.rng, self.ordered, self.unit, self.until = random.Random(seed), ordered, unit, None
        self.keep = self.rng.choice((0.05, 0.3, 0.5, 0.7, 0.95))
        self.keep_data = self.rng.choice((0.05, 0.5, 0.95, 1.0))
        self.kind = ("journal, " if ordered else "strict, ") + ("pages" if unit == PAGE else "sectors")

    def name(self, disk, pos):
        if not self.ordered:
            return self.rng.random() < self.keep
        if self.until is None:
            moments = [p for p, _ in disk.names]
            self.until = max(disk.journal_synced, self.rng.choice([0, *(p + 1 for p in moments)]))
        return pos < self.until

    def content(self, file):
        if not file.pending:
            return file.durable
        if any(data is None for _, _, data in file.pending):
            return self._some_moment(file)
        touched, sizes = {}, [len(file.durable)]
        for change in file.pending:
            _, at, data = change
            sizes.append(max(sizes[-1], at + len(data)))
            for unit in range(at // self.unit, (at + len(data) - 1) // self.unit + 1):
                touched.setdefault(unit, []).append(change)
        image = bytearray(file.durable)
        image.extend(bytes(max(0, max(sizes) - len(image))))
        for unit, changes in touched.items():
            for change in changes[:self._versions(len(changes))]:
                self._write_unit(image, unit, change)
        del image[self._size(sizes):]
        return image

    def _some_moment(self, file):
        """A file that was cut: what was cut off does not come back behind a size that grew again."""
        image = bytearray(file.durable)
        for change in file.pending[:self._versions(len(file.pending))]:
            apply(image, change)
        return image

    def _versions(self, n):
        if self.rng.random() < self.keep_data:
            return n
        return self.rng.randrange(n + 1)

    def _size(self, sizes):
        return sizes[-1] if self.rng.random() < self.keep_data else self.rng.choice(sizes)

    def _write_unit(self, image, unit, change):
        _, at, data = change
        begin, end = max(at, unit * self.unit), min(at + len(data), (unit + 1) * self.unit)
        image[begin:end] = data[begin - at:end - at]


class AllBut(Choice):
    """All but one open thing (or, the other way round, nothing but one): what finds an order that is relied on and not enforced."""

    def __init__(self, seed, disk, only=False):
        self.only = only
        self.kind = "only one of the unsynced" if only else "all but one of the unsynced"
        files = [t for t in set(disk.by_number.values()) if t.kind != "folder" and t.pending]
        files.sort(key=lambda t: t.pending[0][0])
        places = [("name", pos) for pos, _ in disk.names] + [("file", t) for t in files] * 2
        self.sort, self.which = random.Random(seed).choice(places) if places else ("none", None)

    def name(self, disk, pos):
        return (self.sort == "name" and pos == self.which) == self.only

    def content(self, file):
        return file.now() if (self.sort == "file" and file is self.which) == self.only else file.durable


class Torn(Choice):
    """The prefix, with the last write cut at a sector or a byte."""

    def __init__(self, seed, last):
        self.rng, self.last = random.Random(seed), last
        self.kind = "last write torn"

    def content(self, file):
        if not file.pending or file.pending[-1][0] != self.last:
            return super().content(file)
        image = bytearray(file.durable)
        for change in file.pending[:-1]:
            apply(image, change)
        pos, at, data = file.pending[-1]
        if data:
            cut = self.rng.randrange(len(data)) if self.rng.random() < 0.3 else self.rng.randrange(0, len(data), SECTOR)
            apply(image, (pos, at, data[:cut]))
        return image


def lay_out(state, root):
    """Writes a state into an empty folder."""
    os.makedirs(root, exist_ok=True)
    for path, content in state.items():
        at = os.path.join(root, path)
        if content is None:
            os.mkdir(at, 0o700)
        elif content == "socket":
            os.mknod(at, 0o600 | stat.S_IFSOCK)
        else:
            fd = os.open(at, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(fd, "wb") as f:
                f.write(content)
