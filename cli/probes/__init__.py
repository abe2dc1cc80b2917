"""`ttt-probe`: its arguments, tables and plots."""
