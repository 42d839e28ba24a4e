"""Contract checks: what a line in a registry promises. Who adds one outside of this repository runs the same checks."""

from revisit_ssl.testing.dataset import check_dataset

__all__ = ["check_dataset"]
