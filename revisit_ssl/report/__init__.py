"""Results as tables beside the papers' numbers, and one page with pictures for each run."""

from revisit_ssl.report.page import write_report
from revisit_ssl.report.tables import compare, print_table

__all__ = ["compare", "print_table", "write_report"]
