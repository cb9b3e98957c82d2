"""``lightcluster``, and ``python -m lightcluster``: the command line for people.

It is imported first, and imports little itself: Ctrl-C ends a command in one line also while the
rest is imported, which takes a second.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C has ended, as shells have it."""


def main() -> None:
    """Run the command line."""
    started = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() == started:  # processes of ours are ended by the same key
            print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED)

    signal.signal(signal.SIGINT, interrupt)
    from lightcluster.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
