"""Pretrain, probe, report: python experiments/run.py rotation --width 1

The first argument is the pretext; --preset chooses the setting whose values every other flag may change
(sample: embedded data, minutes; cifar10; paper; smoke). --help lists all flags with the preset's values.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from revisit_ssl.command_line import main  # TensorFlow reads the variable when it is imported

if __name__ == "__main__":
    sys.exit(main())
