"""The only layer that knows the command line and prints."""

import os

# Threads of OpenMP wait by spinning, which beside other work makes two of them five to ten times
# slower than one. Asleep they lose little on quiet cores. It is read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
