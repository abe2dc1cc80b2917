"""Texts that go on: a model reads them in order, is scored, and learns while it reads."""
