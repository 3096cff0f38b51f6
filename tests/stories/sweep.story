# A large order sweeps the book, level by level, at the prices it finds there; the remainder rests.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits

alice  sell 5 @ 16.00 as A1    -> rested 5
alice  sell 5 @ 16.10 as A2    -> rested 5
alice  sell 5 @ 16.30 as A3    -> rested 5
bob    buy 20 @ 16.20          -> filled 5 @ 16.00 with A1; filled 5 @ 16.10 with A2; rested 10
book   10 @ 16.20 | 5 @ 16.30

# And from the other side.
alice  sell 12 @ 16.00         -> filled 10 @ 16.20 with bob; rested 2
book   | 2 @ 16.00, 5 @ 16.30
