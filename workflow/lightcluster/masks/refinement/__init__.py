"""Ways to refine a foreground score to the edges of its image: one module each.

A new one is a module here that declares its parameters and its `Refinement`, and a line in
`registry`. The configuration is parsed with these modules: they import nothing heavy but within
the functions that need it.
"""
