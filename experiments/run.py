"""Pretrain, probe, report: python experiments/run.py rotation --width 1

The first argument is the pretext; --preset chooses the setting whose values every other flag may change
(sample: embedded data, minutes; cifar10; paper; smoke). --help lists all flags with the preset's values.
"""

import sys

from revisit_ssl.startup import quiet_import

with quiet_import():
    from revisit_ssl.commands.command_line import main

if __name__ == "__main__":
    sys.exit(main())
