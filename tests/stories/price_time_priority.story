# The better price trades first; at one price, whoever came first.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits
account carol limits

alice  sell 5 @ 16.00             -> rested 5
bob    sell 5 @ 16.00             -> rested 5
bob    sell 5 @ 15.90 as CHEAP    -> rested 5
book   | 5 @ 15.90, 10 @ 16.00

carol  buy 12 @ 16.00             -> filled 5 @ 15.90 with CHEAP; filled 5 @ 16.00 with alice; filled 2 @ 16.00 with bob
book   | 3 @ 16.00

# A maker that was filled partly keeps its place.
alice  sell 4 @ 16.00 as LATER    -> rested 4
carol  buy 4 @ 16.00              -> filled 3 @ 16.00 with bob; filled 1 @ 16.00 with LATER
