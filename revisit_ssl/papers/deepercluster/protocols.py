"""How the DeeperCluster paper measures features."""

PROTOCOLS = {}
