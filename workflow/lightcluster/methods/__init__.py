"""The methods that segment a dataset: each is a folder that declares all that is its own.

`protocol` says what a method is, `registry` which there are.
"""
