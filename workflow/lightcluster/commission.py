"""A step leaves results on behalf of the run that started it, while that is at work.

A run writes a token into its lock and gives it to its steps, in their environment. A step that
outlives its run (Snakemake was killed alone) finds another token there, or a lock that nobody
holds. It leaves nothing then, and ends: what it made would stand in the place of a newer result,
made with settings that nobody knows of. A step that is called by hand has no such run.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from lightcluster.errors import OutlivedError
from lightcluster.locks import SHARED, is_held, lives, read_note

VARIABLE = "LIGHTCLUSTER_RUN"
"""Environment variable: the token of the step's run, a space, and the folder of its results."""

LOCK, PUBLISHING = ".lock", ".publishing"
"""Files in that folder: the run's lock, and one that is held while a result is put in its place."""

_SECONDS = 3.0
_GRACE = 20.0


def environment(folder: Path, token: str) -> dict[str, str]:
    """Return the environment of steps that belong to the run holding the lock of `folder`."""
    return {VARIABLE: f"{token} {folder.absolute()}"}


def commission(environ: Mapping[str, str] = os.environ) -> tuple[str, Path] | None:
    """Return the token and the results folder of the run that started this process, if any."""
    token, _, folder = environ.get(VARIABLE, "").partition(" ")
    return (token, Path(folder)) if token and folder else None


def check_commission() -> None:
    """Raise an error if the run that started this process has ended.

    Raises
    ------
    OutlivedError
    """
    if (given := commission()) is None:
        return
    token, folder = given
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        raise _outlived(folder, "has ended") from None
    try:
        note = read_note(descriptor)
        if note is None or note.get("token") != token:
            raise _outlived(folder, "has ended, and another may have started")
        # On another node only the token is to be relied on: locks may be those of each node alone.
        here = note.get("host") == socket.gethostname()
        if here and not (is_held(descriptor, note, SHARED) and lives(note) is not False):
            raise _outlived(folder, "has ended")
    finally:
        os.close(descriptor)


def _outlived(folder: Path, said: str) -> OutlivedError:
    return OutlivedError(
        f"{folder}: the run that started this step {said}, so the result of the step is discarded; "
        "run snakemake again to complete what is missing"
    )


@contextmanager
def publishing() -> Iterator[None]:
    """Keep any other run from starting in this run's folder while the block runs.

    Raises
    ------
    OutlivedError
        If another run has already started, or the run that started this process has ended.
    """
    if (given := commission()) is None:
        yield
        return
    check_commission()  # never create files in a folder that another run owns, or that is gone
    descriptor = os.open(given[1] / PUBLISHING, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        check_commission()
        yield
    finally:
        os.close(descriptor)


def end_with_the_run() -> None:
    """End this process soon after the run that started it, if one did; call it on the main thread.

    Without this a step that takes hours would keep its cores and its memory for a result that
    nobody wants. It ends as by SIGTERM, so that what it was writing is removed.
    """
    if commission() is None:
        return
    check_commission()
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_watch, name="end with the run", daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _watch() -> None:
    while True:
        time.sleep(_SECONDS)
        try:
            check_commission()
        except OutlivedError as error:
            print(f"Error: {error}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE)
            os._exit(1)  # it is busy in a library and does not see signals
        except OSError:  # the folder may be out of reach for a moment
            continue
