"""Decoding of image files: which decoder takes a file, and what it makes of it."""
