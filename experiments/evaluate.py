"""Probe a saved backbone: python experiments/evaluate.py runs/my-run --probes knn"""

import sys

from revisit_ssl.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main(form=f"python {sys.argv[0]}"))
