# Immediate-or-cancel takes what there is; fill-or-kill takes all or nothing. Neither ever rests.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits
account carol limits

alice  sell 7 @ 16.00            -> rested 7
bob    buy 2 @ 17.00 ioc         -> filled 2 @ 16.00 with alice
book   | 5 @ 16.00
carol  buy 9 @ 16.00 fok         -> expired 9 unfilled
book   | 5 @ 16.00
carol  buy 9 @ 16.00 ioc         -> filled 5 @ 16.00 with alice; expired 4 unfilled
book   |

# A fill-or-kill order may use several levels. Of an iceberg it counts what is shown.
alice  sell 4 @ 16.00 as A1      -> rested 4
alice  sell 4 @ 16.05 as A2      -> rested 4
carol  buy 8 @ 16.05 fok         -> filled 4 @ 16.00 with A1; filled 4 @ 16.05 with A2
alice  sell 9 @ 16.00 shows 2    -> rested 9 showing 2
carol  buy 3 @ 16.00 fok         -> expired 3 unfilled
