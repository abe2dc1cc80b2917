"""Titans: the delta rule with momentum and forgetting."""
