"""What `lightcluster run` shows of a run; Snakemake finds it by the name of this package."""

from lightcluster.watching import LogHandler

__all__ = ["LogHandler"]
