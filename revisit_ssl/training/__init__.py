"""Training: recipe -> devices, data, network, steps with exact restart -> backbone.keras."""
