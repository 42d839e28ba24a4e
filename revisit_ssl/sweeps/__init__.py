"""Sweeps: grids of runs, planned and timed first, then run in child processes."""
