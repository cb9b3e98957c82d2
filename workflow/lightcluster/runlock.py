"""One run at a time in a folder of results; a killed one leaves nothing to clear away.

Snakemake notes the files that it is about to make in ``.snakemake/locks`` and refuses to start
while they are noted, which they still are after a ``kill -9`` or a power loss. Locks that end with
their process tell notes of the living from notes of the dead.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lightcluster.commission import LOCK, PUBLISHING, environment
from lightcluster.errors import LightClusterError
from lightcluster.locks import EXCLUSIVE, Lock, try_lock

_PATIENCE = 20.0
"""Seconds that a run waits for what takes an instant: a step of an earlier one that is putting a
result in its place, or somebody who looks at the lock."""


class RunLock(Lock):
    """The lock of a folder of results.

    Parameters
    ----------
    folder : Path
        Of the results of one dataset; made when the lock is taken.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / LOCK)
        self.folder = folder

    def obstacle(self) -> str | None:
        """Return why a run could not start in the folder now; None if it could."""
        if holder := self.holder():
            return self._refusal(holder)
        if self.folder.is_dir() and not os.access(self.folder, os.W_OK):
            return self._denial("it is read-only")
        return None

    def acquire(self) -> dict[str, str]:
        """Take the lock until this process ends.

        Returns
        -------
        dict of str to str
            The environment of the steps of this run, see `commission`.

        Raises
        ------
        LightClusterError
            If another run holds it, or the folder cannot be written to.
        """
        token, end = secrets.token_hex(8), time.monotonic() + _PATIENCE
        try:
            while not self.take(token):
                holder = self.holder()  # none, if somebody only looks: a busy machine is slow
                if holder or time.monotonic() > end:
                    raise LightClusterError(self._refusal(holder or "another run"))
        except OSError as error:
            raise LightClusterError(self._denial(error.strerror)) from None
        return environment(self.folder, token)

    def _write(self, descriptor: int, note: dict[str, Any]) -> None:
        """Write the token while no step of an earlier run is putting a result in its place."""
        publishing = os.open(self.folder / PUBLISHING, os.O_RDWR | os.O_CREAT, 0o666)
        end = time.monotonic() + _PATIENCE
        try:
            while try_lock(publishing, EXCLUSIVE) is False:
                if time.monotonic() > end:
                    raise LightClusterError(
                        f"{self.folder}: a step of an earlier run is still writing there; end its "
                        "processes, then start again"
                    )
                time.sleep(0.05)
            super()._write(descriptor, note)
        finally:
            os.close(publishing)

    def _refusal(self, holder: str) -> str:
        return (
            f"{self.folder}: {holder} is at work there; let it finish, or end it, then start again "
            f"(a dry run, `snakemake -n`, disturbs nobody){self.remedy()}"
        )

    def _denial(self, reason: str | None) -> str:
        return (
            f"{self.folder}: cannot be written to ({reason}); results are made there: change its "
            "permissions, or start in another folder"
        )


class Notes:
    """Snakemake's notes of the files that runs are about to make.

    A run that has its lock signs its notes with it. Until then, from before its notes are there, it
    holds a lock for the start of a run: a note that is not signed, while nobody starts, is of the
    dead.

    Parameters
    ----------
    folder : Path
        ``.snakemake``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "locks"
        self._start = Lock(folder / "lightcluster.start")
        self._found: set[Path] = set()

    def begin(self, results: Path, wait: float = 5.0) -> None:
        """Remove the notes of the dead, and let nobody else start before `sign` or the end.

        Parameters
        ----------
        results : Path
            The folder that the folders of all runs are in, as notes name it.
        wait : float
            Seconds to wait for another that is starting; while it is, only notes that are signed
            are known to be of the dead.
        """
        alone = False
        with contextlib.suppress(OSError):
            alone = self._start.take(wait=wait)
        for note in self._all():
            with contextlib.suppress(OSError):
                signed, places = _runs_of(note, results)
                known = signed or (
                    alone and places
                )  # without a place it may be of another workflow
                if known and not any(RunLock(place).holder() for place in places):
                    note.unlink()
        self._found = set(self._all())

    def share(self, files: Iterable[Path], results: Path) -> Iterator[str]:
        """Let a file that runs share be used once it is made, though the run that made it goes on.

        Parameters
        ----------
        files : iterable of Path
            As notes name them.
        results : Path
            As for `begin`.

        Yields
        ------
        str
            For a run that is to make such files, or is making them: the first, and what to do.
        """
        for note in self.folder.glob("*.output.lock"):
            with contextlib.suppress(OSError):
                lines, began = note.read_text("utf-8").splitlines(), note.stat().st_mtime_ns
                noted = [file for file in files if str(file) in lines]
                made = {str(file) for file in noted if self._is_made(file, began)}
                if made:
                    left = note.with_suffix(".new")
                    left.write_text("".join(f"{line}\n" for line in lines if line not in made))
                    os.utime(left, ns=(began, began))
                    os.replace(left, note)
                places = sorted(_runs_of(note, results)[1])
                makers = [f"{place} ({RunLock(place).holder() or 'starting'})" for place in places]
                for file in [file for file in noted if str(file) not in made][:1]:
                    yield (
                        f"{file}: the run of {' or '.join(makers)} is to make it; start again "
                        "when it is there (do not unlock)"
                    )

    def _is_made(self, file: Path, began: int) -> bool:
        """Tell whether Snakemake has completed a file since a run began."""
        name = base64.urlsafe_b64encode(str(file).encode()).decode()
        marked = (self.folder.with_name("incomplete") / name).exists()
        return file.exists() and file.stat().st_mtime_ns >= began and not marked

    def sign(self, lock: RunLock) -> None:
        """Sign the notes of this run with its lock; others may start now."""
        for note in set(self._all()) - self._found:
            with contextlib.suppress(OSError), note.open("a", encoding="utf-8") as file:
                file.write(f"{lock.file}\n")
        self._start.release()

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("*.lock"))


def _runs_of(note: Path, results: Path) -> tuple[bool, set[Path]]:
    """Return whether a note is signed, and the folder of its run: all that it may be, if not."""
    lines = [Path(line) for line in note.read_text("utf-8", errors="replace").splitlines()]
    signatures = {line.parent for line in lines if line.name == LOCK}
    inside = (line.relative_to(results).parts for line in lines if line.is_relative_to(results))
    return bool(signatures), signatures or {results / parts[0] for parts in inside if parts}
