"""What `lightcluster run` shows of a run; Snakemake finds it by the name of this package.

Snakemake imports it whenever it starts, before it has read a workflow. It imports nothing of
`lightcluster`, which must be the package beside the rules that are run, not an installed one.
"""

from snakemake_logger_plugin_lightcluster.watching import LogHandler

__all__ = ["LogHandler"]
