"""Attention through a sliding window."""
