"""Requests of another program: strings to be scored or continued, each by a fresh reader."""
