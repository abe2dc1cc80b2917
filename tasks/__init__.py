"""Streams and sources."""
