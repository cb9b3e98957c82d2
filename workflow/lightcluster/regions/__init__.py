"""Object regions: connected components, their features, their classes, the painted result."""
