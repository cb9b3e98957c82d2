"""Frozen backbones: one module a family, behind the protocol that every step uses.

A new family is a module here that declares it, and a line in `registry`. The configuration is
parsed with the modules of families: they import torch and timm only within the functions that need
them.
"""
