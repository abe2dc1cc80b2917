"""The arguments, tables and plots of `ttt-probe`."""
