"""What lies on the disk: run folders, journals, checkpoints."""
