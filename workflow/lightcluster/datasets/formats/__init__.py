"""Formats of datasets, one module each.

A new one is a module here and a line in `registry`. The configuration is parsed, and a dataset
listed, with these modules: they import nothing heavy but within the functions that need it.
"""
