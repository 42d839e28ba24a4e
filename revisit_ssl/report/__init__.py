"""Results as tables beside the papers' numbers, one page with pictures for each run, one for each paper."""

from revisit_ssl.report.claims import claims
from revisit_ssl.report.figures import accuracy_curves, endpoint_figure, scatter_figure, width_figure
from revisit_ssl.report.page import write_report
from revisit_ssl.report.paper import agreement_table, paper_tables, rank_agreement
from revisit_ssl.report.paper_page import write_paper_report
from revisit_ssl.report.study import study_tables
from revisit_ssl.report.tables import compare, print_table, result_table

__all__ = [
    "accuracy_curves",
    "agreement_table",
    "claims",
    "compare",
    "endpoint_figure",
    "paper_tables",
    "print_table",
    "rank_agreement",
    "result_table",
    "scatter_figure",
    "study_tables",
    "width_figure",
    "write_paper_report",
    "write_report",
]
