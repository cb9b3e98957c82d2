"""Segmentation methods, one folder per method.

`protocol` defines the interface of a method, and `registry` lists all methods.
"""
