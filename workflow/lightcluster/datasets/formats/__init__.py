"""Dataset formats, one module each.

To add a format, add a module here and list it in `registry`. These modules are imported to parse
the configuration and to list datasets, so heavy imports belong inside functions.
"""
