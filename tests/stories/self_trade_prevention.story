# Who would trade with itself: the mode of the order that comes decides.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits

# None: the trade happens.
alice  sell 2 @ 16.00 as A1                  -> rested 2
alice  buy 2 @ 16.00                         -> filled 2 @ 16.00 with A1

# The one that comes is canceled.
alice  sell 2 @ 16.00 as A2                  -> rested 2
alice  buy 3 @ 16.00 cancel_taker            -> canceled 3 self_trade
book   | 2 @ 16.00

# The one that rests is canceled, and matching goes on.
bob    sell 2 @ 16.00                        -> rested 2
alice  buy 3 @ 16.00 cancel_maker as A3      -> A2: canceled 2 self_trade; filled 2 @ 16.00 with bob; rested 1
book   1 @ 16.00 |

# Both are.
alice  sell 5 @ 16.00 cancel_both            -> A3: canceled 1 self_trade; canceled 5 self_trade
book   |

# What is filled before it meets itself stays filled.
bob    sell 1 @ 16.00                        -> rested 1
alice  sell 9 @ 16.00 as A4                  -> rested 9
alice  buy 5 @ 16.00 cancel_taker            -> filled 1 @ 16.00 with bob; canceled 4 self_trade

# A fill-or-kill order does not count its own account's orders, and never fills partly.
bob    sell 3 @ 16.01                        -> rested 3
alice  buy 3 @ 16.01 fok cancel_taker        -> expired 3 unfilled
alice  buy 3 @ 16.01 fok cancel_maker        -> A4: canceled 9 self_trade; filled 3 @ 16.01 with bob
