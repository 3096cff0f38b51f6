# In a halt nothing trades and nothing new comes in; what is there may be canceled.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits

alice  sell 5 @ 16.00 as A1    -> rested 5
alice  sell 5 @ 16.10 as A2    -> rested 5
admin  halt BTC-USD            -> done
bob    buy 5 @ 16.00           -> refused not_trading
alice  replace A1 4            -> refused not_trading
alice  cancel A1               -> canceled 5 requested
book   | 5 @ 16.10

# The whole venue may be halted too; both have to be lifted.
admin  halt *                  -> done
admin  resume BTC-USD          -> done
bob    buy 5 @ 16.10           -> refused not_trading
admin  resume *                -> done
bob    buy 5 @ 16.10           -> filled 5 @ 16.10 with A2
