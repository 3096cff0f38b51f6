"""`make slo`: does this build hold its objectives? Starts the venue, loads it with k6, judges, reports."""
