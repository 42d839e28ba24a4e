"""Pretrain, probe, report: python experiments/run.py rotation --width 1"""

import sys

from revisit_ssl.__main__ import start

if __name__ == "__main__":
    start(f"python {sys.argv[0]}", "run")
