"""Probe a saved backbone: python experiments/evaluate.py runs/my-run --probes knn"""

import sys

from revisit_ssl.__main__ import start

if __name__ == "__main__":
    start(f"python {sys.argv[0]}", "evaluate")
