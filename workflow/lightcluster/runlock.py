"""A lock that allows one run at a time per results folder, and needs no clean-up after a kill.

Snakemake lists the files that a run will write in ``.snakemake/locks``, and refuses to start while
they are listed, which they still are after a ``kill -9`` or a power loss. Locks that end with their
process distinguish the notes of live runs from those of dead ones.
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
"""Seconds that a run waits for operations that take an instant: a step of an earlier run that is
renaming its result, or a process that is checking the lock."""


class RunLock(Lock):
    """The lock of a results folder.

    Parameters
    ----------
    folder : Path
        Folder of a dataset's results; created when the lock is taken.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / LOCK)
        self.folder = folder

    def obstacle(self) -> str | None:
        """Return why a run cannot start in the folder now; None if it can."""
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
            Environment variables for the steps of this run, see `commission`.

        Raises
        ------
        LightClusterError
            If another run holds it, or the folder cannot be written to.
        """
        token, end = secrets.token_hex(8), time.monotonic() + _PATIENCE
        try:
            while not self.take(token):
                holder = self.holder()  # None if a process only checks the lock
                if holder or time.monotonic() > end:
                    raise LightClusterError(self._refusal(holder or "another run"))
        except OSError as error:
            raise LightClusterError(self._denial(error.strerror)) from None
        return environment(self.folder, token)

    def _write(self, descriptor: int, note: dict[str, Any]) -> None:
        """Write the token while no step of an earlier run is renaming its result."""
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
            f"{self.folder}: is in use by {holder}; wait until it has finished, or end it, then "
            f"start again (a dry run, `snakemake -n`, is always possible){self.remedy()}"
        )

    def _denial(self, reason: str | None) -> str:
        return (
            f"{self.folder}: cannot be written to ({reason}), but results are written there: "
            "change its permissions, or start in another folder"
        )


class Notes:
    """Snakemake's notes of the files that runs will write.

    A run that holds its lock signs its notes with it. Before that, from before it writes its notes,
    it holds a start lock. Unless a run is starting, an unsigned note thus belongs to a dead run.

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
        """Remove the notes of dead runs, and let no other run start until `sign` or the end.

        Parameters
        ----------
        results : Path
            The folder that contains the folders of all runs, as written in notes.
        wait : float
            Seconds to wait for another run that is starting. Meanwhile, only signed notes can be
            attributed to dead runs.
        """
        alone = False
        with contextlib.suppress(OSError):
            alone = self._start.take(wait=wait)
        for note in self._all():
            with contextlib.suppress(OSError):
                signed, places = _runs_of(note, results)
                known = signed or (
                    alone and places
                )  # notes without a results folder may belong to another workflow
                if known and not any(RunLock(place).holder() for place in places):
                    note.unlink()
        self._found = set(self._all())

    def share(self, files: Iterable[Path], results: Path) -> Iterator[str]:
        """Release completed shared files for other runs while the run that wrote them continues.

        Parameters
        ----------
        files : iterable of Path
            Shared files, as written in notes.
        results : Path
            As for `begin`.

        Yields
        ------
        str
            For each run that has yet to complete such files: a message with the first of them.
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
                        f"{file}: will be written by the run of {' or '.join(makers)}; start again "
                        "when it exists (do not unlock)"
                    )

    def _is_made(self, file: Path, began: int) -> bool:
        """Return whether Snakemake has completed a file since a run began."""
        name = base64.urlsafe_b64encode(str(file).encode()).decode()
        marked = (self.folder.with_name("incomplete") / name).exists()
        return file.exists() and file.stat().st_mtime_ns >= began and not marked

    def sign(self, lock: RunLock) -> None:
        """Sign the notes of this run with its lock, and let other runs start."""
        for note in set(self._all()) - self._found:
            with contextlib.suppress(OSError), note.open("a", encoding="utf-8") as file:
                file.write(f"{lock.file}\n")
        self._start.release()

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("*.lock"))


def _runs_of(note: Path, results: Path) -> tuple[bool, set[Path]]:
    """Return whether a note is signed, and its results folder (or all candidates if not)."""
    lines = [Path(line) for line in note.read_text("utf-8", errors="replace").splitlines()]
    signatures = {line.parent for line in lines if line.name == LOCK}
    inside = (line.relative_to(results).parts for line in lines if line.is_relative_to(results))
    return bool(signatures), signatures or {results / parts[0] for parts in inside if parts}
