"""A resumable grid of runs: python experiments/sweep.py revisiting --pretexts rotation jigsaw --seeds 0 1 2

The first argument is the recipe family or a table of a paper (cld, cld-a1 to cld-a4, cld-figure-a2, obow,
obow-vocabulary); --help lists the sweep's flags, every other one is run.py's and holds for all runs. The plan is
printed first (--plan prints nothing else). The same command goes on where a stopped or killed sweep was. Each run has a
folder with its log in WORKDIR; the numbers of all of them are in WORKDIR/results.jsonl.
"""

import pathlib
import sys

from revisit_ssl.startup import quiet_import

with quiet_import():
    import tensorflow as tf

    from revisit_ssl.commands.command_line import main_sweep

if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")  # all of their memory is for the runs
    sys.exit(main_sweep(run_script=str(pathlib.Path(__file__).with_name("run.py"))))
