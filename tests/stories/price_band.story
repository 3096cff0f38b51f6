# Prices more than 5 % away from the last trade are refused, as are orders worth less than 30 dollars.
symbol  BTC-USD tick 0.01 lot 1 band 0.05 at_least 30
account alice limits
account bob   limits

# Before the first trade there is no band.
alice  sell 2 @ 90.00 as A1    -> rested 2
alice  sell 2 @ 20.00 as A2    -> rested 2
bob    buy 2 @ 20.00           -> filled 2 @ 20.00 with A2
bob    buy 2 @ 21.01           -> refused price_band
bob    buy 2 @ 21.00           -> rested 2
alice  sell 2 @ 18.99          -> refused price_band
alice  sell 1 @ 21.00          -> refused price_band     # worth 21 dollars
alice  sell 2 @ 21.00          -> filled 2 @ 21.00 with bob

# The market moved, and its band with it.
bob    buy 2 @ 22.05           -> rested 2
