"""Object regions: connected components, their CLS tokens, their classes, the painted result."""
