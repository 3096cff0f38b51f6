"""Read the log from a sequence number on: what followers, recovery and `tradsys replay` share.

A reader stands behind a verified frame. To go on it tries the place it stands at, then the start of the next
segment; what does not follow in the chain is not there. So it needs nobody's help to find its way, and may
read while the engine writes, as long as it asks for no more than `published_seq`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tradsys.adapters.log.files import Files
from tradsys.adapters.log.segments import segment_indexes, segment_name, segment_path
from tradsys.codec.frame import (
    CHAIN_BYTES,
    CLOSED_FRAME,
    COMMANDS_FRAME,
    EPOCH_FRAME,
    FRAME_OVERHEAD,
    GENESIS,
    KIND_WORDS,
    SEGMENT_FRAME,
    FrameError,
    RawFrame,
    UnknownFrame,
    decode_entries,
    decode_frame,
    decode_segment_payload,
    frame_size,
)
from tradsys.venue.ports import Frame, JournalError

# A poll that finds one new frame reads little; a long way is read in large pieces.
READ_BYTES_MIN, READ_BYTES_MAX = 16 << 10, 1 << 20


class BrokenLog(JournalError):
    """The log can't be trusted: `seq` is the first command that can't be, at `offset` of `segment`."""

    def __init__(self, seq: int, segment: int, offset: int, detail: str) -> None:
        super().__init__(f"journal broken at seq {seq}, {segment_name(segment)} offset {offset}: {detail}")
        self.seq = seq
        self.segment = segment
        self.offset = offset
        self.detail = detail


class LogReader:
    """Frames after `after_seq`. The first may begin earlier, if a batch lies across; then skip what you have.

    With a `chain`, as a snapshot carries it, a frame must end with `after_seq` and this chain. The files
    are opened when first needed, so a reader may be made before there is a log.
    """

    def __init__(self, directory: str, files: Files, after_seq: int = 0, chain: bytes | None = None) -> None:
        self._directory = directory
        self._files = files
        self._after_seq = after_seq
        self._chain_wanted = chain
        self.agrees = chain is None
        """A frame with the wanted chain was seen at `after_seq`."""
        self.segment = 0
        """Index of the segment the reader stands in; 0: there is none yet."""
        self.offset = 0
        """Where the next frame begins."""
        self.seq = 0
        """The last command that was read."""
        self.chain = GENESIS
        """Chain of the last frame that was read."""
        self.epoch = 0
        self.durable = False
        """Whether replies of this epoch waited for the sync."""
        self.time_ns = 0
        self.closed = False
        """The last frame says that the log was drained and closed."""
        self._started = False
        self._handle = -1
        self._size = 0
        self._data = b""
        self._data_offset = 0
        self._read_bytes = READ_BYTES_MIN

    def frames(self, until_seq: int) -> Iterator[Frame]:
        """The frames of commands up to `until_seq` (≤ published_seq); call again when there are more.

        Raises BrokenLog if one of them can't be verified.
        """
        self._read_bytes = READ_BYTES_MIN
        while self.seq < until_seq:
            raw = self.next_frame()
            if raw is None:
                raise self.broken("no frame verifies here, but the engine has published it")
            if raw.kind == COMMANDS_FRAME and raw.last_seq > self._after_seq:
                yield self.decode(raw)

    def next_frame(self) -> RawFrame | None:
        """The next frame of any kind; the reader stands behind it then. None: none verifies.

        Raises BrokenLog for a frame that verifies and yet can't be the next one.
        """
        if not self._started:
            self._started = self._find_start()
            if not self._started:
                return None
        raw = self._frame_here() or self._frame_of_next_segment()
        if raw is None:
            return None
        # What _check compares, for the kind of frame that a log is made of: 5 µs a frame become 3.
        if (
            raw.kind != COMMANDS_FRAME
            or raw.first_seq != self.seq + 1
            or raw.epoch != self.epoch
            or not raw.count
            or self.offset == CHAIN_BYTES
        ):
            self._check(raw)
        self.offset += FRAME_OVERHEAD + len(raw.payload)
        self.seq += raw.count
        self.chain = raw.chain
        self.epoch = raw.epoch
        self.durable = raw.durable
        self.time_ns = raw.time_ns
        self.closed = raw.kind == CLOSED_FRAME
        if not self.agrees:
            self._compare_chain()
        return raw

    def decode(self, raw: RawFrame) -> Frame:
        """The frame just read, with its entries. Raises BrokenLog."""
        try:
            return Frame(raw.first_seq, raw.time_ns, raw.epoch, decode_entries(raw), raw.payload)
        except FrameError as error:
            raise self.broken(error.detail, seq=raw.first_seq) from error

    def broken(self, detail: str, seq: int | None = None) -> BrokenLog:
        """The error that names the place where the reader stands."""
        return BrokenLog(self.seq + 1 if seq is None else seq, self.segment or 1, self.offset, detail)

    def close(self) -> None:
        if self._handle >= 0:
            self._files.close(self._handle)
            self._handle = -1

    # --- finding the way ----------------------------------------------------------------------------

    def _find_start(self) -> bool:
        """Stand at the start of the last segment that begins at or before `after_seq`; False: no log yet.

        A segment whose beginning can't be read is passed over: the way from the one before leads there
        and judges it.
        """
        start: tuple[int, RawFrame] | None = None
        indexes = segment_indexes(self._directory, self._files)
        for index in reversed(indexes):
            self._open(index)
            first = self._segment_frame(self._data)
            if first is None:
                continue
            start = index, first
            if first.first_seq <= self._after_seq:
                break
        if start is None:
            if indexes:
                self._open(indexes[0])
            return False
        index, first = start
        self._open(index)
        self.seq = first.first_seq - 1
        self.epoch = first.epoch
        self.chain = self._data[:CHAIN_BYTES]
        if self.seq > self._after_seq or (self.seq == 0 and self.chain != GENESIS):
            if index - 1 in indexes:
                raise BrokenLog(self._after_seq + 1, index - 1, CHAIN_BYTES, "no frame verifies here")
            raise self.broken(f"the oldest segment begins with seq {first.first_seq}", self._after_seq + 1)
        if not self.agrees:
            self._compare_chain()
        return True

    def _open(self, index: int) -> None:
        """Stand before the first frame of a segment."""
        handle = self._files.open(segment_path(self._directory, index))
        self._stand_before(index, handle, self._read(handle, READ_BYTES_MIN, 0))

    def _stand_before(self, index: int, handle: int, data: bytes) -> None:
        self.close()
        self._handle = handle
        self._size = self._files.size(handle)
        self.segment, self.offset = index, CHAIN_BYTES
        self._data, self._data_offset = data, 0

    def _segment_frame(self, data: bytes) -> RawFrame | None:
        """The first frame of a segment that begins with `data`, if it verifies."""
        raw = self._decode(data, CHAIN_BYTES)
        return raw if raw is not None and raw.kind == SEGMENT_FRAME else None

    def _frame_here(self) -> RawFrame | None:
        """The frame where the reader stands, from what was read before or else from the file."""
        at = self.offset - self._data_offset
        # Whoever has read to the end comes back to zeros each time; that it is no frame costs no exception.
        raw = self._decode(self._data, at) if frame_size(self._data, at) else None
        if raw is None:
            # What was read before ends here, or it is older than what the file holds now.
            self._read_here(self._read_bytes)
            self._read_bytes = min(2 * self._read_bytes, READ_BYTES_MAX)
            if self._data[:CHAIN_BYTES] != self.chain:
                return None
            size = frame_size(self._data, CHAIN_BYTES)
            if CHAIN_BYTES + size > len(self._data) and self.offset + size <= self._size:
                self._read_here(CHAIN_BYTES + size)
            raw = self._decode(self._data, CHAIN_BYTES)
        return raw

    def _read_here(self, length: int) -> None:
        self._data_offset = self.offset - CHAIN_BYTES
        self._data = self._read(self._handle, length, self._data_offset)

    def _read(self, handle: int, length: int, offset: int) -> bytes:
        try:
            return self._files.read(handle, length, offset)
        except OSError as error:
            raise self.broken(f"can't be read: {error}") from error

    def _decode(self, data: bytes, at: int) -> RawFrame | None:
        try:
            return decode_frame(data, at, self.seq + 1)
        except UnknownFrame as error:
            raise self.broken(error.detail) from error
        except FrameError:
            return None

    def _frame_of_next_segment(self) -> RawFrame | None:
        """The first frame of the next segment, if it follows in the chain; the reader then stands there."""
        index = self.segment + 1
        try:
            handle = self._files.open(segment_path(self._directory, index))
        except FileNotFoundError:
            return None
        data = self._read(handle, READ_BYTES_MIN, 0)
        raw = self._segment_frame(data) if data[:CHAIN_BYTES] == self.chain else None
        if raw is None:
            self._files.close(handle)
        else:
            self._stand_before(index, handle, data)
        return raw

    def _check(self, raw: RawFrame) -> None:
        """A frame that verifies was written by an engine; that it can't follow here means a defect of one."""
        kind = KIND_WORDS[raw.kind]
        if raw.first_seq != self.seq + 1:
            raise self.broken(f"{kind} frame begins with seq {raw.first_seq}")
        if (raw.kind == COMMANDS_FRAME) != (raw.count > 0):
            raise self.broken(f"{kind} frame with {raw.count} commands")
        if raw.epoch < self.epoch or (raw.epoch == self.epoch) == (raw.kind == EPOCH_FRAME):
            raise self.broken(f"{kind} frame of epoch {raw.epoch} in epoch {self.epoch}")
        if (raw.kind == SEGMENT_FRAME) != (self.offset == CHAIN_BYTES):
            raise self.broken(f"{kind} frame where none can stand")
        if raw.kind == SEGMENT_FRAME:
            try:
                index = decode_segment_payload(raw)
            except FrameError as error:
                raise self.broken(error.detail) from error
            if index != self.segment:
                raise self.broken(f"this is segment {index}")

    def _compare_chain(self) -> None:
        """With the chain asked for; frames without commands may stand behind `after_seq`, too."""
        if self.seq > self._after_seq:
            raise self.broken("the log was another one at this point", self._after_seq)
        self.agrees = self.seq == self._after_seq and self.chain == self._chain_wanted
