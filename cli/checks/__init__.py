"""The tiny run of `ttt-check`, and its table."""
