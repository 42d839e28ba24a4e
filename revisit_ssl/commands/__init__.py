"""The command lines: run, evaluate, sweep, report. Flags are read without TensorFlow; ``work`` does what they say."""
