"""A resumable grid of runs: python experiments/sweep.py revisiting --seeds 0 1 2"""

import sys

from revisit_ssl.commands.sweep import main

if __name__ == "__main__":
    sys.exit(main(form=f"python {sys.argv[0]}"))
