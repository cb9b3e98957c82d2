"""The baseline of the field: k-means of the patch features of a dataset, each cluster a class."""
