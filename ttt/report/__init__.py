"""Run folders in, one self-contained HTML page out: what was run, what came out, and where to doubt it."""
