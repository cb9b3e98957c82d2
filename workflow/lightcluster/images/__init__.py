"""Decoding of image files: recognising the format, reading the header, converting to RGB."""
