"""Find where the log ends, replay it on the way, and refuse to start on less than what was promised.

Recovery only reads. `LogWriter.begin` then makes what was found certain and takes the log over.

What ends a log: zeros (nothing was written there), a frame cut short by a kill, or, after a power cut, a
tail that was never synced. The log ends at the first place where no frame verifies, and what follows is
cut, unless something in it may have been promised. It is refused if

1. the command expected there is within the snapshot, the high-water mark, or what the page says is
   written, if the page is of this boot;
2. or, later, a frame verifies that was written only when everything before it had been synced: one of
   a newer epoch, of a `durable` epoch, or the `closed` frame;
3. or, later, any frame of this epoch verifies, and the machine has not lost power since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from tradsys.adapters.log.files import Files
from tradsys.adapters.log.mark import Mark, MarkFile
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.segments import segment_indexes, segment_name, segment_path
from tradsys.codec.frame import (
    CHAIN_BYTES,
    CLOSED_FRAME,
    COMMANDS_FRAME,
    FRAME_OVERHEAD,
    HEADER,
    MAGIC,
    FrameError,
    RawFrame,
    UnknownFrame,
    decode_frame,
    first_difference,
    frame_size,
)
from tradsys.venue.ports import Frame, JournalError

PIECE_BYTES = 1 << 20
PROGRESS_FRAMES = 1024
_ZEROS = bytes(PIECE_BYTES)


class Extent(Struct, frozen=True):
    """Bytes of a segment, from `start` to before `end`."""

    segment: int
    start: int
    end: int


class Recovered(Struct, frozen=True, kw_only=True):
    """Where the log ends, and what `LogWriter.begin` must do before it goes on there."""

    seq: int
    """The last command; 0: none yet."""
    chain: bytes
    epoch: int
    """The newest epoch in the log; 0: none yet."""
    next_epoch: int
    time_ns: int
    """The newest time in the log: engine time goes on from there."""
    segment: int
    offset: int
    """Where the next frame goes; 0: this segment does not hold anything yet."""
    closed: bool
    """The engine before this one drained, synced and closed the log."""
    unsynced: tuple[Extent, ...]
    """Frames above the high-water mark: read, but perhaps never synced."""
    stale: tuple[Extent, ...]
    """Bytes behind the end that are not zero: the tail that is cut."""


def recover(
    directory: str,
    files: Files,
    apply: Callable[[Frame], bytes],
    *,
    after_seq: int = 0,
    chain: bytes | None = None,
    published_seq: int | None,
    progress: Callable[[int, int], None] = lambda seq, last: None,
) -> Recovered:
    """Replay everything after a snapshot's (seq, chain), or everything, and find the end of the log.

    `apply` replays a frame and returns the payload it gives (`encode_payload`), which must equal the
    journal's. `published_seq` is the page's if the page is of this boot, None if the machine may have
    lost power. `progress` is called now and then with the last command replayed and the last one known of.

    Raises BrokenLog, or JournalError where there is no place to name.
    """
    mark = _read_mark(directory, files)
    reader = LogReader(directory, files, after_seq, chain)
    try:
        required = max(mark.seq, after_seq, published_seq or 0)
        unsynced = _replay(reader, apply, after_seq, mark, lambda seq: progress(seq, max(seq, required)))
        if published_seq is not None and reader.seq < published_seq:
            raise reader.broken(f"the engine had written up to seq {published_seq}")
        if reader.seq < mark.seq:
            raise reader.broken(f"the high-water mark is seq {mark.seq}")
        if reader.seq < after_seq:
            raise reader.broken(f"the snapshot is of seq {after_seq}")
        if not reader.agrees:
            raise reader.broken("the log is another one than the snapshot's", after_seq)
        stale = _tail(directory, files, reader, power_lost=published_seq is None)
    finally:
        reader.close()
    return Recovered(
        seq=reader.seq,
        chain=reader.chain,
        epoch=reader.epoch,
        next_epoch=max(reader.epoch, mark.epoch) + 1,
        time_ns=reader.time_ns,
        segment=max(reader.segment, 1),
        offset=reader.offset if reader.offset > CHAIN_BYTES else 0,
        closed=reader.closed,
        unsynced=tuple(unsynced),
        stale=tuple(stale),
    )


def _read_mark(directory: str, files: Files) -> Mark:
    try:
        file = MarkFile(directory, files)
    except FileNotFoundError:
        # The mark is on the disk before the first frame, so a log without one was not written like that.
        reader = LogReader(directory, files)
        try:
            if reader.next_frame() is not None:
                raise JournalError(f"{directory} holds a journal, but no high-water mark") from None
        finally:
            reader.close()
        return Mark()
    file.close()
    return file.mark


def _replay(
    reader: LogReader,
    apply: Callable[[Frame], bytes],
    after_seq: int,
    mark: Mark,
    progress: Callable[[int], None],
) -> list[Extent]:
    """Read to the end; returns where the frames from the mark on are."""
    unsynced: list[Extent] = []
    mark_passed = mark.seq == 0
    frames = 0
    while (raw := reader.next_frame()) is not None:
        if not frames and reader.seq >= mark.seq:
            # The snapshot is of later, so the mark's own frame isn't read.
            mark_passed = True
        frames += 1
        start = reader.offset - FRAME_OVERHEAD - len(raw.payload)
        if raw.kind == COMMANDS_FRAME and raw.last_seq > after_seq:
            if raw.first_seq <= after_seq:
                raise reader.broken("a batch lies across the snapshot", after_seq)
            frame = reader.decode(raw)
            replayed = apply(frame)
            if replayed != raw.payload:
                seq = raw.first_seq + first_difference(raw.payload, replayed)
                raise reader.broken("replay gives other events", seq)
        if reader.seq == mark.seq:
            mark_passed = mark_passed or raw.chain == mark.chain
        elif reader.seq > mark.seq and not mark_passed:
            raise reader.broken("the log is another one than that of the high-water mark", mark.seq)
        if reader.seq >= mark.seq:
            if unsynced and unsynced[-1].segment == reader.segment:
                start = unsynced.pop().start
            # The first frame of a segment goes with the chain that stands before it.
            unsynced.append(Extent(reader.segment, 0 if start == CHAIN_BYTES else start, reader.offset))
        if frames % PROGRESS_FRAMES == 0:
            progress(reader.seq)
    if reader.seq == mark.seq and not mark_passed:
        raise reader.broken("no frame verifies here, but the high-water mark is of one behind")
    progress(reader.seq)
    return unsynced


def _tail(directory: str, files: Files, reader: LogReader, power_lost: bool) -> list[Extent]:
    """What is not zero behind the end. Raises BrokenLog if it may not be cut."""
    stale: list[Extent] = []
    for index in segment_indexes(directory, files):
        if index < reader.segment:
            continue
        start = max(reader.offset, CHAIN_BYTES) if index == reader.segment else 0
        handle = files.open(segment_path(directory, index))
        try:
            end = _written_end(files, handle, start)
            if end == start:
                continue
            stale.append(Extent(index, start, end))
            for offset, raw in _frames_between(files, handle, start, end):
                synced_before = raw.epoch > reader.epoch or raw.durable or raw.kind == CLOSED_FRAME
                if raw.epoch >= reader.epoch and (synced_before or not power_lost):
                    raise reader.broken(
                        f"no frame verifies here, but seq {raw.first_seq} does at "
                        f"{segment_name(index)} offset {offset}"
                    )
        finally:
            files.close(handle)
    return stale


def _written_end(files: Files, handle: int, start: int) -> int:
    """Behind the last byte that is not zero; `start` if all are."""
    end = offset = start
    while data := files.read(handle, PIECE_BYTES, offset):
        if data != _ZEROS[: len(data)]:
            end = offset + len(data.rstrip(b"\0"))
        offset += len(data)
    return end


def _frames_between(files: Files, handle: int, start: int, end: int) -> Iterator[tuple[int, RawFrame]]:
    """Frames that verify behind the 16 bytes before them, wherever they are found; with their offsets."""
    size = files.size(handle)
    offset = start
    while offset < end:
        data = files.read(handle, PIECE_BYTES + len(MAGIC) - 1, offset)
        at = data.find(MAGIC)
        if at < 0:
            offset += PIECE_BYTES
            continue
        offset += at
        length = frame_size(files.read(handle, HEADER.size, offset), 0)
        if offset >= CHAIN_BYTES and length and offset + length <= size:
            data = files.read(handle, CHAIN_BYTES + length, offset - CHAIN_BYTES)
            try:
                yield offset, decode_frame(data, CHAIN_BYTES, 0)
            except UnknownFrame as error:
                raise JournalError(f"a frame of a newer release: {error.detail}") from error
            except FrameError:
                length = 1
        else:
            length = 1
        offset += length
