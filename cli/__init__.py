"""The only layer that knows the command line and prints."""
