"""CAUSE (Kim, Lee and Ro, arXiv 2310.07379), a published method for comparison.

It is trained on cached tokens of a frozen backbone: a clusterbook of concepts, by modularity
(`modularity`); a head that separates concepts (`heads`, `contrastive`); a cluster probe on the
head's features with as many clusters as classes (`modularity` again). `segmentation` applies it.
"""
