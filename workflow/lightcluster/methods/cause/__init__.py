"""CAUSE (Kim, Lee and Ro, arXiv 2310.07379), the system that is compared with this project's.

From cached tokens of a frozen backbone: a clusterbook of concepts by modularity (`modularity`), a
head that tells concepts apart (`heads`, `contrastive`), a probe of as many clusters as classes on
what the head makes of the tokens (again `modularity`), and its segmentation (`segmentation`).
"""
