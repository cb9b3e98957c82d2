"""The steps of the workflow as commands: ``python -m lightcluster.step NAME …``.

Each step is declared next to its command. The functions can also be called from Python:
`model.segment` does so to send new images through the same steps.
"""
