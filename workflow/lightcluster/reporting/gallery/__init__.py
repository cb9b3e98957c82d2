"""The gallery of a run: a page, opened from a disk, on which one looks through all images."""
