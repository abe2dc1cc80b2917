"""From what the user typed to objects, and what names a run."""
