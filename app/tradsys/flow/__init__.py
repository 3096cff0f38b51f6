"""Order flow for a venue, sent through its public API.

model       the flow itself: a seeded model of who sends what and when; knows no venue
book        a price-time book of the sender's own, to know the touch and to check the venue's
send        sends commands open loop over connections, counts and times the answers
lobster     reads message files in LOBSTER format
exchange    replays such a file at a venue and follows its top of book
latency     percentiles in bounded memory
"""
