"""`ttt-bench`: what each benchmark measures."""
