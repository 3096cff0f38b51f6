# The kill switch cancels everything an account has, waiting stops too, and refuses what is new.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits

alice  sell 5 @ 16.00 as A1          -> rested 5
alice  buy 5 @ 15.00 as A2           -> rested 5
alice  buy 5 stop 18.00 as A3        -> waits for 18.00
bob    sell 5 @ 16.00 as B           -> rested 5
admin  kill alice                    -> done; A1: canceled 5 kill_switch; A2: canceled 5 kill_switch; A3: canceled 5 kill_switch; 3 done
book   | 5 @ 16.00
alice  buy 1 @ 16.00                 -> refused kill_switch
bob    replace B 4                   -> now 4 @ 16.00, keeps its place

# For everybody; a cancel is never refused.
rules  step_orders_max 1
bob    sell 1 @ 16.20 as B2          -> rested 1
admin  kill *                        -> done; B: canceled 4 kill_switch; 1 done, more to do
bob    cancel B2                     -> canceled 1 requested
engine continue                      -> 0 done
bob    buy 1 @ 16.00                 -> refused kill_switch
admin  revive *                      -> done
bob    buy 1 @ 15.00                 -> rested 1
alice  buy 1 @ 15.00                 -> refused kill_switch
admin  revive alice                  -> done
alice  buy 1 @ 15.00                 -> rested 1
