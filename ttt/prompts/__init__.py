"""Search for prompts by their reward: which to keep, which to change, and how."""
