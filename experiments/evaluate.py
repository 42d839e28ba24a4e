"""Probe a saved backbone: python experiments/evaluate.py runs/my-run --probes linear lbfgs --endpoints pre_logits

Takes a workdir (its recipe.json and backbone.keras). Any recipe field that evaluation reads can be changed by a flag:
another labelled set (--probe-dataset), a share of its labels (--probe-fraction), other probes and endpoints.
"""

import sys

from revisit_ssl.startup import quiet_import

with quiet_import():
    from revisit_ssl.commands.command_line import main_evaluate

if __name__ == "__main__":
    sys.exit(main_evaluate())
