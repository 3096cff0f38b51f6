"""How a command fails: one sentence for a person on stderr, and an exit code for a program.

0   done                       70  the journal can't be trusted or written
1   refused, unreachable, …    75  another process holds the data directory
2   wrong usage                78  a setting is wrong
"""

from __future__ import annotations

OK = 0
ERROR = 1
USAGE = 2
JOURNAL = 70
LOCKED = 75
CONFIGURATION = 78
INTERRUPTED = 130


class Failure(Exception):
    """Ends the command; `hint` tells what to do."""

    def __init__(self, message: str, hint: str = "", exit_code: int = ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
