"""`ttt-run -m`: many runs, each a process of its own."""
