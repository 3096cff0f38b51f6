# Less at the same price keeps the place in the queue. More, or another price, goes to its end.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits
account carol limits

alice  sell 5 @ 16.00 as A         -> rested 5
bob    sell 5 @ 16.00 as B         -> rested 5
alice  replace A 3                 -> now 3 @ 16.00, keeps its place
carol  buy 1 @ 16.00               -> filled 1 @ 16.00 with A
alice  replace A 4                 -> now 4 @ 16.00, loses its place; rested 3
carol  buy 1 @ 16.00               -> filled 1 @ 16.00 with B
bob    replace B 5 @ 16.10         -> now 5 @ 16.10, loses its place; rested 4
book   | 3 @ 16.00, 4 @ 16.10

# The new quantity is the whole order's: it cannot be less than what is filled already.
alice  replace A 1                 -> refused not_cancelable

# A new price may meet the other side, and then the order trades.
carol  buy 2 @ 15.50 as C          -> rested 2
alice  replace A 4 @ 15.50         -> now 4 @ 15.50, loses its place; filled 2 @ 15.50 with C; rested 1
book   | 1 @ 15.50, 4 @ 16.10
alice  replace C 1                 -> refused no_such_order
