"""Wang, Liu, Yu: Unsupervised Feature Learning by Cross-Level Instance-Group Discrimination (arXiv:2008.03813)."""
