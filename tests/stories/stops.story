# A stop waits, without a place in the book, until a trade reaches its price.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits
account carol limits

carol  buy 3 stop 17.00 as STOP            -> waits for 17.00
carol  buy 3 stop 17.00 @ 17.05 as LIMIT   -> waits for 17.00
book   |
alice  sell 1 @ 16.99 as A1                -> rested 1
alice  sell 1 @ 17.00 as A2                -> rested 1
alice  sell 4 @ 17.02 as A3                -> rested 4

bob    buy 1 @ 16.99                       -> filled 1 @ 16.99 with A1
bob    buy 1 @ 17.00                       -> filled 1 @ 17.00 with A2; STOP: triggered; STOP: filled 3 @ 17.02 with A3; LIMIT: triggered; LIMIT: filled 1 @ 17.02 with A3; LIMIT: rested 2
book   2 @ 17.05 |

# Where the price has been reached already, it is triggered at once.
alice  sell 9 stop 17.02 @ 17.50           -> triggered; rested 9

# A waiting stop can be changed and canceled like any order.
carol  sell 3 stop 16.50 as DOWN           -> waits for 16.50
carol  cancel DOWN                         -> canceled 3 requested
