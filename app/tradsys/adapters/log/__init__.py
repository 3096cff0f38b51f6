"""The journal on a disk: an append-only log of segments.

**Segments.** `00000001.log`, `00000002.log`, …: files of one size, filled with zeros and synced before they
get their name (`prepare_next_segment`, done by the follower). The engine only ever overwrites zeros: an
append is one `pwrite`, and an fdatasync has no metadata to wait for. A frame never spans two segments;
what is left at the end of one stays zero. Frames and their chained hash are described in
`tradsys/codec/README.md`. The next place is found from the files alone: if no frame verifies here, then
either the next segment begins with a frame that follows in the chain, or the log ends here.

**Who knows how far.** The engine writes `published_seq` into the shared page after each append, together
with the place. A follower reads no further than that, syncs behind the engine (`LogSync`), and writes
`durable_seq`. Every so often it writes the *high-water mark*, a small file that says: the log was once
synced at least up to this sequence number, with this chain (`mark.py`).

**What a restart may find.** After a kill -9 everything that was written is there, and the page, which lives
as long as the kernel does, says how much that was: nothing shorter is accepted. After a power cut the page
is of another boot and says nothing; then nothing shorter than the high-water mark is accepted. Above it,
frames that were never synced may be missing, torn, or there without those before them: this tail is what
the power cut takes back. In a `durable` venue it holds nothing that anybody was told.

**Epochs.** Every start takes the log over by a new epoch frame, synced before the first reply. It stands
where the tail was cut, so that whoever holds events of the old tail can see from the epoch that they may
have been withdrawn. What was cut can't come back: it is zeroed before the epoch frame is written, and it
could not verify behind that frame anyway, because the chain before it is another.

**Faults.** A write that fails or is short, and a sync that fails, end the writer for ever: what is on the
disk is unknown until recovery has read it. A failed sync is never retried: the kernel may have dropped
the pages it could not write, and would report success the second time. Recovery writes the tail above
the high-water mark again, byte for byte, before it syncs.

Assumed of the disk: 512 bytes are written wholly or not at all, and what fdatasync returned for stays.
"""
