"""A resumable grid of runs: python experiments/sweep.py revisiting --seeds 0 1 2"""

import sys

from revisit_ssl.__main__ import start

if __name__ == "__main__":
    start(f"python {sys.argv[0]}", "sweep")
