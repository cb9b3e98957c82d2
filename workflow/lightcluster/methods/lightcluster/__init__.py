"""The method of this project: what it is to the rest of the program.

Its own steps are in the rooms `clustering`, `masks`, `regions` and `model`, and in the modules of
`step` that are named like these.
"""
