"""The standard baseline: k-means on the patch features of a dataset, where a cluster is a class."""
