"""Every sweep by name: those of the papers."""

from revisit_ssl.papers import sweeps
from revisit_ssl.papers.spec import Variant

__all__ = ["FAMILIES", "Variant"]
FAMILIES = sweeps()
