"""Evaluation: a frozen backbone -> features of each endpoint, once -> every probe -> results."""
