"""The only layer that knows the command line and prints."""

import ctypes
import os
import sys

# Threads of OpenMP that wait by spinning make two of them five to ten times slower than one beside
# other work; asleep they are slow to wake between two small operations. A thousand turns, a few
# microseconds, bridge most such gaps (docs/decisions.md). Both are read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# glibc gives large blocks back to the system as soon as they are free, and each step has to get
# them page by page again. Up to a gibibyte stays with the process (mallopt(3)).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(M_MMAP_THRESHOLD, 2**25)
    libc.mallopt(M_TRIM_THRESHOLD, 2**30)
