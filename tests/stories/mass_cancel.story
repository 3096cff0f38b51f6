# Everything an account has is canceled, oldest first, in steps; what comes later stays.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits
rules   step_orders_max 2

alice  sell 1 @ 16.30 as A1     -> rested 1
alice  sell 1 @ 16.20 as A2     -> rested 1
bob    sell 1 @ 16.20 as B      -> rested 1
alice  buy 1 @ 15.00 as A3      -> rested 1
alice  cancel all               -> A1: canceled 1 requested; A2: canceled 1 requested; 2 done, more to do
alice  sell 1 @ 16.40 as A4     -> rested 1
engine continue                 -> A3: canceled 1 requested; 1 done
book   | 1 @ 16.20, 1 @ 16.40

# One side only; and an admin for an account.
alice  buy 1 @ 15.10 as A5      -> rested 1
alice  cancel all sells         -> A4: canceled 1 requested; 1 done
admin  cancel all of alice      -> A5: canceled 1 mass_cancel; 1 done
alice  cancel A5                -> nothing new
alice  cancel all               -> 0 done
