"""Load for a venue: k6 scripts, the objectives, and the gate that judges by them (`slo`)."""
