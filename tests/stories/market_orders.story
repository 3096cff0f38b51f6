# A market order takes the best there is, but not beyond its protection: 10 % from the last price.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits

bob    buy 1 market           -> expired 1 unfilled
alice  sell 2 @ 10.00 as A1   -> rested 2
alice  sell 2 @ 11.00 as A2   -> rested 2
alice  sell 2 @ 11.01 as A3   -> rested 2
bob    buy 6 market           -> filled 2 @ 10.00 with A1; filled 2 @ 11.00 with A2; expired 2 unfilled
book   | 2 @ 11.01

# The last trade moved the reference to 11.00: now 11.01 is near enough.
bob    buy 1 market           -> filled 1 @ 11.01 with A3
