"""Start Snakemake; Ctrl-C ends it in one line until it handles the key itself.

Snakemake takes seconds to import and to plan, and would print a traceback. This file is run as a
program, not imported as a part of its package, which would take a moment, too. Whoever starts it
blocks the signal of the key, so that there is no moment in which Python handles it.
"""

import signal
import sys

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C has ended, as shells have it."""

if __name__ == "__main__":
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        from snakemake.cli import main

        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
