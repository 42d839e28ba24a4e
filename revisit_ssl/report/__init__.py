"""The engine of reports, which knows no paper: results grouped into settings, tables, claims, figures and pages.

What a paper shows stands in ``papers``; a page of one run in ``report.page``.
"""
