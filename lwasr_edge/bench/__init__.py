"""`lwasr bench`: how fast, how large and how good the models are on this machine (docs/bench.md)."""
