# A cash account reserves what an order may cost at worst, and gets back what it did not cost.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   cash 100 USD 5 BTC

bob    buy 6 @ 16.00 as B      -> rested 6
bob    has 4 USD, 96 USD reserved, 5 BTC
bob    buy 1 @ 4.01            -> refused insufficient_balance
admin  withdraw 5 USD bob      -> refused insufficient_balance

# A part is filled, the rest is canceled.
alice  sell 2 @ 15.00          -> filled 2 @ 16.00 with B
bob    has 4 USD, 64 USD reserved, 7 BTC
bob    cancel B                -> canceled 4 requested
bob    has 68 USD, 7 BTC

# A better price than the limit is saved at once.
alice  sell 4 @ 15.00          -> rested 4
bob    buy 4 @ 17.00           -> filled 4 @ 15.00 with alice
bob    has 8 USD, 11 BTC

# A sell reserves what is sold.
bob    sell 8 @ 20.00 as S     -> rested 8
bob    has 8 USD, 3 BTC, 8 BTC reserved
bob    sell 4 @ 20.00          -> refused insufficient_balance
bob    replace S 11            -> now 11 @ 20.00, loses its place; rested 11
bob    has 8 USD, 11 BTC reserved
admin  deposit 10 USD bob      -> done

# A stop reserves as it is accepted: its worst price is 10 % above.
bob    buy 1 stop 16.50        -> refused insufficient_balance
bob    buy 1 stop 16.00        -> waits for 16.00
bob    has 0.4 USD, 17.6 USD reserved, 11 BTC reserved
