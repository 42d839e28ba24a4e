"""Results as tables beside the papers' numbers, one page with pictures for each run, one for each paper."""

from revisit_ssl.report.page import write_report
from revisit_ssl.report.paper import paper_tables, rank_agreement
from revisit_ssl.report.paper_page import write_paper_report
from revisit_ssl.report.study import study_tables
from revisit_ssl.report.tables import compare, print_table

__all__ = [
    "compare",
    "paper_tables",
    "print_table",
    "rank_agreement",
    "study_tables",
    "write_paper_report",
    "write_report",
]
