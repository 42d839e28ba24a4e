"""Contract checks: what the suite asks of every registry line, to run on your own."""

from revisit_ssl.testing.backbone import check_backbone

__all__ = ["check_backbone"]
