"""Many runs side by side: groups of seeds, tables of intervals, frontiers."""
