"""``lightcluster plan``."""

from __future__ import annotations

from lightcluster.cli.configfile import Configs


def plan(configfile: Configs = None) -> None:
    """Print the size of a run: images, patches, bytes of features, peak memory, jobs."""
    from lightcluster.preview import print_plan

    print_plan(configfile or [])
