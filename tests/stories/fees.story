# Maker 0.1 %, taker 0.2 %, both in dollars, rounded up once for the whole order.
symbol  BTC-USD tick 0.01 lot 1 fees 0.001/0.002
account alice limits
account bob   cash 100 USD

alice  sell 3 @ 10.00          -> rested 3
bob    buy 2 @ 10.00           -> filled 2 @ 10.00 with alice (fees 0.02 / 0.04)
bob    has 79.96 USD, 2 BTC
venue  collected 0.06 USD

# The reservation holds the taker's fee, even if a maker's will do.
bob    buy 7 @ 9.00 as B       -> rested 7
bob    has 16.834 USD, 63.126 USD reserved, 2 BTC
alice  sell 7 @ 9.00           -> filled 7 @ 9.00 with B (fees 0.063 / 0.126)
bob    has 16.897 USD, 9 BTC
venue  collected 0.249 USD
