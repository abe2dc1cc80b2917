"""`ttt-run`: one run, from what was typed to what is shown."""
