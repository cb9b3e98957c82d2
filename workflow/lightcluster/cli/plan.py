"""``lightcluster plan``."""

from __future__ import annotations

from lightcluster.cli.configfile import Configs


def plan(configfile: Configs = None) -> None:
    """Estimate a whole run: images, patches, disk space, peak memory, jobs, time on this machine.

    What is finished already is counted as well: snakemake -n lists the jobs that are left.
    """
    from lightcluster.preview import print_plan

    print_plan(configfile or [])
