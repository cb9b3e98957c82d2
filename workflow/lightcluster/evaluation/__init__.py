"""Evaluation: counts of cluster against class, their matching, and the scores of the field."""
