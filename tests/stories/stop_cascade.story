# One stop's trades set off the next: nearest price first. A long cascade goes on in steps of the engine.
symbol  BTC-USD tick 0.01 lot 1
account alice limits
account bob   limits
rules   step_orders_max 2

bob    buy 1 @ 10.00 as B0      -> rested 1
bob    buy 1 @ 9.95 as B1       -> rested 1
bob    buy 1 @ 9.90 as B2       -> rested 1
bob    buy 9 @ 9.80 as B3       -> rested 9
alice  sell 1 stop 9.80 as S4   -> waits for 9.80
alice  sell 1 stop 9.90 as S3   -> waits for 9.90
alice  sell 1 stop 9.95 as S2   -> waits for 9.95
alice  sell 1 stop 10.00 as S1  -> waits for 10.00

alice  sell 1 @ 10.00           -> filled 1 @ 10.00 with B0; S1: triggered; S1: filled 1 @ 9.95 with B1; S2: triggered; S2: filled 1 @ 9.90 with B2; 2 done, more to do
engine continue                 -> S3: triggered; S3: filled 1 @ 9.80 with B3; S4: triggered; S4: filled 1 @ 9.80 with B3; 2 done
engine continue                 -> 0 done
book   7 @ 9.80 |
