"""The inner loop: optimizer steps and the pace at which they are taken."""
