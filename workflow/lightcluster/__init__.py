"""LightCluster: unsupervised semantic segmentation without training.

Implements the method of Cheung, Chen, Yang and Zhao (arXiv 2311.18628): the keys of a frozen
self-supervised Vision Transformer are clustered at the levels of dataset, category and image;
the levels vote on the foreground; its regions are clustered into classes by their CLS tokens.
"""

__version__ = "0.1.0"
