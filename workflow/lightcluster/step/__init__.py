"""The steps of the workflow as commands: ``python -m lightcluster.step NAME …``.

Each is declared beside its command. The functions can be called without the command line:
`model.segment` does, so that new images go through the very steps of the workflow.
"""
