"""Test-time training layers."""
