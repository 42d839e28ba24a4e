"""Clustering of all features of a data set, between epochs: whitening, k-means over files, agreement of clusterings."""
