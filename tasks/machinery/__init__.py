"""What streams and sources are built from."""
