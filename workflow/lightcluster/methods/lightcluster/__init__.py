"""The method of this project.

Most of its steps are in the folders `clustering`, `masks`, `regions` and `model`, and in the
modules of `step` with the same names.
"""
