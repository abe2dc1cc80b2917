"""What slow weights are moved by: the likelihood of the data, or a reward."""
