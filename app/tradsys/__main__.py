"""`tradsys` and `python -m tradsys`: the command line, by a shorter way for the processes of a venue."""

from __future__ import annotations

import sys

from tradsys.cli.serve import PROCESSES, leave, serve


def run() -> None:
    arguments = sys.argv[1:]
    if len(arguments) == 2 and arguments[0] == "serve" and arguments[1] in PROCESSES:
        # Supervisors and containers start processes like this, and clients wait for it: without the command
        # line's tables and option parsers it takes two thirds of the time to begin.
        leave(serve(arguments[1]))
    from tradsys.cli.main import main

    main()


if __name__ == "__main__":
    run()
