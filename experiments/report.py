"""Tables and figures from several runs: python experiments/report.py runs/a runs/b … > table.md"""

import sys

from revisit_ssl.__main__ import start

if __name__ == "__main__":
    start(f"python {sys.argv[0]}", "report")
