"""LightCluster as a library: what ``import lightcluster as lc`` offers, on arrays.

Nothing is written to disk, and no process is started. What needs files for thousands of images is
the workflow, and `lightcluster.model.segment`.
"""
