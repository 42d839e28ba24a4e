"""python -m revisit_ssl run | evaluate | sweep | report"""

import sys

from revisit_ssl.commands.main import main

if __name__ == "__main__":
    sys.exit(main(form="python -m revisit_ssl"))
