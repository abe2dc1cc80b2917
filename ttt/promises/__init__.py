"""What every part promises, as functions that look for a counterexample in a part of your own."""
