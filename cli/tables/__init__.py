"""`ttt-compare`: tables for a terminal, a page, a paper, or another program."""
