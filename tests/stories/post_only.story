# A post-only order may only wait: it is refused where it would trade at once.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits

alice  sell 5 @ 16.00                 -> rested 5
bob    buy 2 @ 16.00 post_only        -> refused would_cross
bob    buy 2 @ 15.99 post_only as B   -> rested 2
book   2 @ 15.99 | 5 @ 16.00

# Replacing it may not make it trade either.
bob    replace B 2 @ 16.00            -> refused would_cross
bob    replace B 2 @ 15.98            -> now 2 @ 15.98, loses its place; rested 2
book   2 @ 15.98 | 5 @ 16.00
