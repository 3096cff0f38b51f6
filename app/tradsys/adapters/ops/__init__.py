"""The ops port of a process: its server, and what a process can tell of itself."""
