"""What the slow weights learn from: the likelihood of the data, or a reward."""
