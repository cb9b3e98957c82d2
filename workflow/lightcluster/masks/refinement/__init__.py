"""Methods that refine a foreground score to the edges in its image, one module each.

A new one needs a module that declares its parameters and its `Refinement`, and a line in
`registry`. These modules are imported when the configuration is parsed, so heavy imports belong
inside their functions.
"""
