"""One run at a time in a folder of results; a killed one leaves nothing to clear away.

Snakemake notes the files that it is about to make in ``.snakemake/locks`` and refuses to start
while they are noted, which they still are after a ``kill -9`` or a power loss. Beside them stands
a lock of the operating system here, which ends with the process that holds it and so tells
notes of the living from notes of the dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from lightcluster.errors import LightClusterError


class RunLock:
    """The lock of a folder of results.

    Parameters
    ----------
    folder : Path
        Of the results of one dataset; made when the lock is taken.

    Notes
    -----
    On a file system without such locks (``flock``) nobody ever seems to be at work, and only
    Snakemake's own notes guard the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / ".lock"
        self._held: int | None = None

    def obstacle(self) -> str | None:
        """Return why a run could not start in the folder now; None if it could."""
        if holder := self.holder():
            return self._refusal(holder)
        if self.folder.is_dir() and not os.access(self.folder, os.W_OK):
            return self._denial("it is read-only")
        return None

    def holder(self) -> str | None:
        """Return which run is at work in the folder now, in words; None if there is none."""
        try:
            descriptor = os.open(self.file, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _describe(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return None

    def acquire(self) -> None:
        """Take the lock until this process ends.

        Raises
        ------
        LightClusterError
            If another run holds it, or the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise LightClusterError(self._denial(error.strerror)) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _describe(descriptor)
            os.close(descriptor)
            raise LightClusterError(self._refusal(holder)) from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return
        note = {"process": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}
        os.truncate(descriptor, 0)
        os.write(descriptor, json.dumps(note).encode())
        self._held = descriptor

    def forget_the_dead(self, notes: Path) -> None:
        """Remove the notes of runs that made files in this folder and are no more.

        Parameters
        ----------
        notes : Path
            ``.snakemake/locks``. Notes of runs on other datasets are left alone.
        """
        if self.holder() is not None:
            return
        for note in notes.glob("*.lock"):
            with contextlib.suppress(OSError):
                lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
                if any(Path(line).is_relative_to(self.folder) for line in lines):
                    note.unlink()

    def _refusal(self, holder: str) -> str:
        return (
            f"{self.folder}: {holder} is at work there; let it finish, or end it, then start again "
            "(a dry run, `snakemake -n`, disturbs nobody)"
        )

    def _denial(self, reason: str | None) -> str:
        return (
            f"{self.folder}: cannot be written to ({reason}); results are made there: change its "
            "permissions, or start in another folder"
        )


def _describe(descriptor: int) -> str:
    """Put what a lock's holder wrote into it into words."""
    try:
        note = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {note['process']} on {note['host']} (since {note['since']})"
    except (ValueError, KeyError, TypeError):
        return "another run"
