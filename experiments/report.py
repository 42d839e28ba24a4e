"""Tables and figures from several runs: python experiments/report.py runs/a runs/b … > table.md"""

import sys

from revisit_ssl.commands.report import main

if __name__ == "__main__":
    sys.exit(main(form=f"python {sys.argv[0]}"))
