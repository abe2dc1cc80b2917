"""What a run measured, and every number that follows from it."""
