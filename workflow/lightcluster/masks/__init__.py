"""Masks: the foreground decision, the consistency of the levels, upsampling and refinement."""
