"""Do two networks compute the same? Decided where rounding cannot decide it: pruning and folding prove with this."""
