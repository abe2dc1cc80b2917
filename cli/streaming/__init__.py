"""Helpers of `ttt-stream`."""
