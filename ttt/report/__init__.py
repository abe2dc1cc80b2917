"""From run folders to one self-contained HTML page: what was run, what came out, what to doubt."""
