# An iceberg shows a slice at a time. Each new slice goes to the end of the queue.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits
account carol limits

alice  sell 10 @ 16.00 shows 3   -> rested 10 showing 3
bob    sell 4 @ 16.00            -> rested 4
book   | 7 @ 16.00

carol  buy 3 @ 16.00             -> filled 3 @ 16.00 with alice; alice: shows 3
carol  buy 5 @ 16.00             -> filled 4 @ 16.00 with bob; filled 1 @ 16.00 with alice
book   | 2 @ 16.00

# A big order takes slice after slice.
carol  buy 6 @ 16.00             -> filled 2 @ 16.00 with alice; alice: shows 3; filled 3 @ 16.00 with alice; alice: shows 1; filled 1 @ 16.00 with alice
book   |
