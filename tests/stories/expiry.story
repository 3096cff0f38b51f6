# A day order ends at midnight UTC, a gtd order at its time.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits
clock   22:00:00

alice  sell 1 @ 16.00 day as DAY               -> rested 1
alice  sell 2 @ 16.00 gtd 23:00:00 as HOUR     -> rested 2
alice  sell 3 @ 16.00 as GTC                   -> rested 3
bob    buy 9 stop 20.00 gtd 22:30:00 as STOP   -> waits for 20.00

clock  22:30:00
engine expire                                  -> STOP: expired 9 time_up; 1 done
clock  22:59:59
engine expire                                  -> 0 done

# Matching never trades with an order whose time is up, even before the engine has removed it.
clock  23:00:00
bob    buy 2 @ 16.00                           -> filled 1 @ 16.00 with DAY; HOUR: expired 2 time_up; filled 1 @ 16.00 with GTC
alice  sell 5 @ 16.10 day as DAY               -> rested 5

clock  +00:00:00
alice  replace DAY 4                           -> refused not_cancelable
engine expire                                  -> DAY: expired 5 time_up; 1 done
book   | 2 @ 16.00

# One that is placed at midnight lives for the whole day.
alice  sell 5 @ 16.10 day as DAY               -> rested 5
engine expire                                  -> 0 done
