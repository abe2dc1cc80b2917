"""Search for prompts by their reward: which prompts to keep, which to change, and how."""
