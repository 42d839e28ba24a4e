"""Gidaris et al.: Online Bag-of-Visual-Words Generation for Unsupervised Representation Learning (2012.11552)."""
