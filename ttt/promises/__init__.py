"""What every part promises, as functions that look for a counterexample in a part of your own."""

# The groups of the parts that promise something.
GROUPS = ("adapter", "strategy", "task", "source", "model", "optimizer")
