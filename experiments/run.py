"""Pretrain, probe, report: python experiments/run.py rotation --width 1"""

import sys

from revisit_ssl.commands.run import main

if __name__ == "__main__":
    sys.exit(main(form=f"python {sys.argv[0]}"))
