"""Real KV for the codec's benchmarks; start at README.md."""

import os

# OpenBLAS's threads spin while they wait: on a machine whose cores others use too, two of them take
# four times the CPU time of one and longer. Has no effect once numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
