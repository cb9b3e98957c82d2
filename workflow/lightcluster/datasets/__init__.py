"""Datasets: listing images and labels, checking them, and the generated demo."""
