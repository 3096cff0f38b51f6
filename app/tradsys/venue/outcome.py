"""What became of a command."""

from __future__ import annotations

from tradsys.codec.applied import Done as Done
from tradsys.codec.errors import Problem

Outcome = Done | Problem
