"""`tradsys` whose profile `baseline` keeps its server and takes the codec of `hft`: tells the two apart."""

from __future__ import annotations

from tradsys.__main__ import run
from tradsys.adapters.http import baseline
from tradsys.codec.json_order import reply_bytes_of
from tradsys.codec.json_v1 import decode_new_order

if __name__ == "__main__":
    baseline.read_order, baseline.write_order = decode_new_order, reply_bytes_of
    run()
