"""Segmentations in the formats that other tools read, one module a target.

A new one is a module here that declares its `Exporter`, and a line in `registry`. The command line
lists them: they import nothing heavy but within the functions that need it.
"""
