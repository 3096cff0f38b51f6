"""A disk that remembers what was never synced, and a machine on it whose power can be cut.

`RecordingDisk` is the log's file port (`tradsys.adapters.log.files.Files`) in memory. It keeps every version
that an unsynced 512-byte sector has had, so that a power cut may leave any of them: the write dropped, torn,
or kept while an earlier one is lost. Names are kept as the log of what was done to a directory; a cut
leaves a prefix of what was not synced.

A datasync that fails does what Linux does: the sectors stay visible to readers, count as written, and no
later datasync brings them to the disk unless they are written again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random

from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.recovery import Recovered, recover
from tradsys.adapters.log.segments import prepare_next_segment
from tradsys.adapters.log.sync import LogSync
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page
from tradsys.codec.frame import encode_payload
from tradsys.core.messages import CancelOrder
from tradsys.venue.ports import Entry, Frame, JournalError

SECTOR = 512


class Content:
    """One file's bytes: as readers see them, as the disk has them, and every version in between."""

    def __init__(self, data: bytes = b"") -> None:
        self.seen = bytearray(data)
        self.on_disk = bytes(data)
        self.unsynced: dict[int, list[bytes]] = {}

    def write(self, data: bytes, offset: int) -> None:
        if len(self.seen) < offset:
            self.seen.extend(bytes(offset - len(self.seen)))
        self.seen[offset : offset + len(data)] = data
        for sector in range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1):
            version = bytes(self.seen[sector * SECTOR : (sector + 1) * SECTOR])
            self.unsynced.setdefault(sector, []).append(version)

    def datasync(self) -> None:
        self.on_disk = self._with({sector: versions[-1] for sector, versions in self.unsynced.items()})
        self.unsynced.clear()

    def forget_unsynced(self) -> None:
        self.unsynced.clear()

    def after_power_cut(self, random: Random) -> Content:
        manner = random.randrange(4)
        chosen: dict[int, bytes] = {}
        for sector, versions in self.unsynced.items():
            # All dropped; all kept; each as it happens; or mostly kept, with a hole here and there.
            lost = (True, False, random.random() < 0.5, random.random() < 0.1)[manner]
            if not lost:
                chosen[sector] = random.choice(versions) if manner == 2 else versions[-1]
        return Content(self._with(chosen))

    def _with(self, sectors: dict[int, bytes]) -> bytes:
        data = bytearray(self.on_disk)
        for sector, version in sorted(sectors.items()):
            start = sector * SECTOR
            if len(data) < start + len(version):
                data.extend(bytes(start + len(version) - len(data)))
            data[start : start + len(version)] = version
        return bytes(data)


class RecordingDisk:
    """Files in memory, as the log's file port sees them."""

    def __init__(self, names: dict[str, Content] | None = None, capacity: int = 1 << 40) -> None:
        self.names: dict[str, Content] = dict(names or {})
        self.names_on_disk = dict(self.names)
        self._unsynced_names: list[dict[str, Content]] = []
        self._handles: dict[int, Content] = {}
        self.capacity = capacity
        self.watch: Callable[[], None] = lambda: None
        """Called before and after each call that changes something."""
        self._faults: dict[str, list[tuple[int, int | None]]] = {}
        self.calls: list[str] = []

    def fail(self, call: str, *, after: int = 0, error: int = errno.EIO, written: int | None = None) -> None:
        """Let a call, or "any" that changes something, fail once, after so many good ones.

        `written`: it writes so much, and returns.
        """
        self._faults[call] = [(0, None)] * after + [(error, written)]

    def heal(self) -> None:
        self._faults.clear()

    def power_cut(self, random: Random) -> RecordingDisk:
        """What the disk holds when the power is back."""
        kept = random.randint(0, len(self._unsynced_names))
        names = self._unsynced_names[kept - 1] if kept else self.names_on_disk
        return RecordingDisk(
            {name: content.after_power_cut(random) for name, content in names.items()}, self.capacity
        )

    def copy(self) -> RecordingDisk:
        return RecordingDisk({name: Content(content.seen) for name, content in self.names.items()})

    # --- the port -----------------------------------------------------------------------------------

    def open(self, path: str, /) -> int:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        handle = len(self._handles)
        self._handles[handle] = self.names[path]
        return handle

    def create(self, path: str, /) -> int:
        self._change("create")
        self.names[path] = Content()
        self._names_changed()
        return self.open(path)

    def close(self, handle: int, /) -> None:
        assert handle in self._handles

    def size(self, handle: int, /) -> int:
        return len(self._handles[handle].seen)

    def read(self, handle: int, length: int, offset: int, /) -> bytes:
        return bytes(self._handles[handle].seen[offset : offset + length])

    def write(self, handle: int, data: bytes, offset: int, /) -> int:
        written = self._change("write")
        content = self._handles[handle]
        grows = offset + len(data) - len(content.seen)
        if grows > 0 and grows > self.capacity - sum(len(file.seen) for file in self.names.values()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        content.write(data if written is None else data[:written], offset)
        self.watch()
        return len(data) if written is None else written

    def datasync(self, handle: int, /) -> None:
        content = self._handles[handle]
        try:
            self._change("datasync")
        except OSError:
            content.forget_unsynced()
            raise
        content.datasync()
        self.watch()

    def rename(self, old: str, new: str, /) -> None:
        self._change("rename")
        self.names[new] = self.names.pop(old)
        self._names_changed()

    def remove(self, path: str, /) -> None:
        self._change("remove")
        del self.names[path]
        self._names_changed()

    def list(self, directory: str, /) -> list[str]:
        return [name.rpartition("/")[2] for name in self.names if name.rpartition("/")[0] == directory]

    def sync_directory(self, directory: str, /) -> None:
        self._change("sync_directory")
        self.names_on_disk = dict(self.names)
        self._unsynced_names.clear()
        self.watch()

    def _names_changed(self) -> None:
        self._unsynced_names.append(dict(self.names))
        self.watch()

    def _change(self, call: str) -> int | None:
        """Before a change: a fault, if one is due; else how much may be written, None for all."""
        self.watch()
        self.calls.append(call)
        due = self._faults.get(call) or self._faults.get("any")
        if not due:
            return None
        error, written = due.pop(0)
        if error and written is None:
            raise OSError(error, os.strerror(error))
        return written


class Machine:
    """An engine and its follower on one disk. The state that is replayed is the list of what happened.

    `written` is that list, with the batch under way; the first `told` of it have been answered.
    """

    DIRECTORY = "/shard"

    def __init__(
        self,
        disk: RecordingDisk,
        page: Page,
        *,
        durable: bool,
        segment_bytes: int = 8192,
        told: int = 0,
    ) -> None:
        self.disk = disk
        self.page = page
        self.durable = durable
        self.segment_bytes = segment_bytes
        self.told = told
        self.written: list[Entry] = []
        self.sync: LogSync
        self.writer: LogWriter

    def start(self) -> Recovered:
        """Recover, and begin a new epoch: from then on everything recovered may be told."""
        found: list[Entry] = []

        def apply(frame: Frame) -> bytes:
            assert frame.first_seq == len(found) + 1
            found.extend(frame.entries)
            return encode_payload(frame.entries)

        recovered = recover(
            self.DIRECTORY,
            self.disk,
            apply,
            published_seq=self.page.published_seq if self.page.current else None,
        )
        assert recovered.seq == len(found)
        self.written = found
        self.writer = LogWriter.begin(
            self.DIRECTORY,
            self.disk,
            recovered,
            self.page,
            durable=self.durable,
            segment_bytes=self.segment_bytes,
            time_ns=recovered.time_ns + 1,
        )
        self.told = len(found)
        self.sync = LogSync(self.DIRECTORY, self.disk, self.page)
        return recovered

    def append(self, random: Random, count: int = 1, padding: int = 40) -> None:
        """A batch of commands that no other batch of any epoch equals."""
        first_seq = len(self.written) + 1
        entries = [self._an_entry(random, first_seq + i, padding) for i in range(count)]
        self.written += entries
        self.writer.append(first_seq, self.writer.epoch * 1000, entries)
        self.told = len(self.written)

    def _an_entry(self, random: Random, seq: int, padding: int) -> Entry:
        text = random.randbytes(random.randint(0, padding)).hex()
        return Entry(CancelOrder(f"epoch-{self.writer.epoch}", seq, text), [(5, seq, 4, 1, seq)])

    def prepare(self) -> bool:
        return prepare_next_segment(self.DIRECTORY, self.disk, self.page, self.segment_bytes)

    def read(self) -> list[Entry]:
        """What a follower that begins now sees."""
        reader = LogReader(self.DIRECTORY, self.disk)
        return [entry for frame in reader.frames(self.page.published_seq) for entry in frame.entries]

    def after_power_cut(self, random: Random, page: Page) -> Machine:
        """The same machine when the power is back; `page` is what its next boot finds."""
        return self._with(self.disk.power_cut(random), page)

    def after_kill(self) -> Machine:
        """The same machine with a new engine: everything written is there, also in the page."""
        return self._with(self.disk, self.page)

    def _with(self, disk: RecordingDisk, page: Page) -> Machine:
        return Machine(disk, page, durable=self.durable, segment_bytes=self.segment_bytes, told=self.told)


def refused(machine: Machine) -> JournalError:
    """Why the machine does not start; an assertion fails if it does."""
    try:
        recovered = machine.start()
    except JournalError as error:
        return error
    raise AssertionError(f"started at seq {recovered.seq}")
