"""Frozen backbones: one module per family, behind an interface that all steps use.

To add a family, add a module here and list it in `registry`. These modules are imported to parse
the configuration, so they import torch and timm only inside functions.
"""
