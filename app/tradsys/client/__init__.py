"""A client of the venue's REST API: one connection, decoded answers, typed refusals, safe retries."""
