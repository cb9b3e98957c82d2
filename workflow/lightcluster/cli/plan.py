"""``lightcluster plan``."""

from __future__ import annotations

from lightcluster.cli.configfile import Configs


def plan(configfile: Configs = None) -> None:
    """Estimate a run: images, patches, disk space, peak memory, jobs, and time on this machine."""
    from lightcluster.preview import print_plan

    print_plan(configfile or [])
