"""The configuration: typed sections, defaults, and a report of all mistakes at once.

Each section is declared in `settings.py` of the folder that reads it; this package combines them.
`config/README.md` and `workflow/schemas/config.schema.json` are generated from these models
(``make docs``); a test fails if they are out of date.
"""

from lightcluster.config.configuration import (
    Config,
    FitSettings,
    describe_type,
    lookup,
    nest,
    put_over,
    walk_keys,
)
from lightcluster.config.grid import SHARED_SECTIONS, expand_grid
from lightcluster.config.runs import DEFAULT_RUN, parse_config

__all__ = [
    "DEFAULT_RUN",
    "SHARED_SECTIONS",
    "Config",
    "FitSettings",
    "describe_type",
    "expand_grid",
    "lookup",
    "nest",
    "parse_config",
    "put_over",
    "walk_keys",
]
