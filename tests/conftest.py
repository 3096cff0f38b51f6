"""What all tests share: hypothesis neither measures time nor surprises.

By default the same examples come in every run, so that a red test is red for everybody.
`HYPOTHESIS_PROFILE=explore` looks for new ones and prints how to repeat what it finds.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
