"""The DeeperCluster paper, with DeepCluster and RotNet."""
