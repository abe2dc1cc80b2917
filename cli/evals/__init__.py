"""Helpers of `ttt-eval`."""
