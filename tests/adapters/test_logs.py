"""What the processes say of themselves: lines of one form, or text for people."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

from tradsys.compose.logs import TextOut, text_of

SAYS = """
import logging, warnings
from tradsys.compose.logs import start_logging
start_logging("feed", {form!r})
log = logging.getLogger("tradsys.feed")
log.info("serving from seq %d", 7)
logging.getLogger("elsewhere").info("chatter")
logging.getLogger("elsewhere").warning("a line\\nbreak")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a defect")
"""


def said(form: str) -> list[str]:
    code = SAYS.format(form=form)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_every_line_is_one_json_object_with_the_same_head():
    lines = [json.loads(line) for line in said("json")]

    assert [(line["level"], line["process"], line["event"], line["message"]) for line in lines] == [
        ("info", "feed", "log", "serving from seq 7"),
        ("warning", "feed", "log", "a line\nbreak"),
        ("error", "feed", "log", "a defect"),
    ]
    assert all(line["ts"].isdigit() and len(line["ts"]) == 19 for line in lines)
    assert lines[2]["trace"].splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_text_is_for_people_and_a_line_break_begins_no_line_of_its_own():
    lines = said("text")

    heads = [line[13:] for line in lines if not line.startswith("    ")]
    assert heads == [
        "INFO  feed     serving from seq 7",
        "WARN  feed     a line",
        "ERROR feed     a defect",
    ]


def test_a_request_in_text():
    line = {
        "ts": "1700000000123000000", "level": "info", "process": "query", "event": "request",
        "request_id": "r-1", "method": "GET", "path": "/api/v1/fills", "status": 404, "engine_us": 120,
    }  # fmt: skip
    out = io.BytesIO()

    TextOut(out).write(json.dumps(line).encode() + b"\n")

    assert out.getvalue().decode() == (
        "22:13:20.123 INFO  query    "
        "request request_id=r-1 method=GET path=/api/v1/fills status=404 engine_us=120\n"
    )


def test_a_fault_keeps_its_trace_below_it():
    line = {"ts": "0", "level": "error", "process": "engine", "event": "fault", "trace": "a\nb"}

    assert text_of(line) == "00:00:00.000 ERROR engine   fault\n    a\n    b"


def test_levels_have_one_width():
    assert {len(text_of({"ts": "0", "level": level.lower(), "process": "x", "event": "log", "message": ""}))
            for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
            if logging.getLevelName(level)} == {len("00:00:00.000 INFO  x        ")}  # fmt: skip
