"""tradsys: a trading venue. ARCHITECTURE.md tells how it works; start reading in `core`."""

__version__ = "0.1.0"
