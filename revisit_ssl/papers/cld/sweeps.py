SWEEPS = {}
