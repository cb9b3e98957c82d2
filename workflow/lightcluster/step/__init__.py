"""The steps of the workflow as commands: ``python -m lightcluster.step NAME …``.

A command parses its arguments, imports what it needs and calls one function.
"""
