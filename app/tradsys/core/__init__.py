"""The venue as a pure function: `Shard.apply(command, seq, time_ns) -> events`.

Nothing here reads a clock, a file, a socket or a random number, and nothing depends on the order of
a set or on string hashing. README.md beside this file holds the rules in tables.
"""
