"""Locks that end with the process that holds them, so that stale locks never need to be removed.

They are locks of the operating system (``flock``). On file systems without such locks, the note
that the holder writes to the file is used instead: process, host and start time.

Why no library: filelock 4.3, portalocker 4.4 and fasteners 0.20 do not report the holder of a lock
of the operating system, cannot store a token, and cannot check a lock without taking it, as every
step does every three seconds. On file systems without locks, the latter two fail, and filelock
handles ENOSYS but not the ENOLCK of NFS, and considers killed zombie processes alive. flufl.lock
10.0 uses a lifetime, which must elapse after a kill.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

EXCLUSIVE, SHARED = fcntl.LOCK_EX, fcntl.LOCK_SH


class Lock:
    """A lock file.

    Parameters
    ----------
    file : Path
        Created when the lock is taken.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._held: int | None = None
        self._owner = 0

    def holder(self) -> str | None:
        """Return a description of the process that holds the lock; None if it is free."""
        try:
            descriptor = os.open(self.file, os.O_RDONLY)
        except OSError:
            return None
        try:
            note = read_note(descriptor)
            return in_words(note) if is_held(descriptor, note, SHARED) else None
        finally:
            os.close(descriptor)

    def remedy(self) -> str:
        """Return advice for a holder that no longer exists, if only its note marks the lock."""
        try:
            with self.file.open("rb") as file:
                note = read_note(file.fileno())
        except OSError:
            return ""
        certain = note is None or note.get("flock", True)
        return "" if certain else f". If that process no longer exists, delete {self.file}"

    def take(self, token: str = "", wait: float = 1.0) -> bool:
        """Take the lock until this process ends, or `release` is called.

        Parameters
        ----------
        token : str
            Text to store in the lock.
        wait : float
            Seconds to keep trying: a process that only checks a lock holds it for an instant.

        Returns
        -------
        bool
            Whether the lock was taken.

        Raises
        ------
        OSError
            If the file cannot be created.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        note = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": time.ctime(),
            "life": _life(os.getpid()),
            "token": token,
        }
        end = time.monotonic() + wait
        while not self._try(note):
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        self._owner = os.getpid()
        atexit.register(self.release)
        return True

    def _try(self, note: dict[str, Any]) -> bool:
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if is_held(descriptor, read_note(descriptor), EXCLUSIVE):
                return False
            note["flock"] = try_lock(descriptor, EXCLUSIVE) is not None
            self._write(descriptor, note)
            if not note["flock"]:
                time.sleep(0.2)  # if two processes write at the same time, the first one notices
            named = os.path.samestat(os.fstat(descriptor), self.file.stat())
            if named and read_note(descriptor) == note:
                self._held = descriptor
        except FileNotFoundError:  # the last holder has just removed it
            return False
        finally:
            if self._held != descriptor:
                os.close(descriptor)
        return self._held is not None

    def _write(self, descriptor: int, note: dict[str, Any]) -> None:
        line = json.dumps(note).encode() + b"\n"
        os.pwrite(descriptor, line, 0)
        os.truncate(descriptor, len(line))

    def release(self, *, remove: bool = False) -> None:
        """Release the lock if this process holds it; `remove`: also delete the file."""
        if self._held is None or self._owner != os.getpid():
            return
        with contextlib.suppress(OSError):
            if remove:
                self.file.unlink()
            else:
                os.truncate(self._held, 0)
        os.close(self._held)
        self._held = None
        atexit.unregister(self.release)


def try_lock(descriptor: int, kind: int) -> bool | None:
    """Try to take a lock; return whether it was taken, or None if locks are not supported."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def read_note(descriptor: int) -> dict[str, Any] | None:
    """Return the note of a lock's holder; None if there is none or it is invalid."""
    try:
        note = json.loads(os.pread(descriptor, 4096, 0).split(b"\n")[0])
    except ValueError:
        return None
    return note if isinstance(note, dict) else None


def is_held(descriptor: int, note: dict[str, Any] | None, kind: int) -> bool:
    """Return whether another process holds a lock; if not, the descriptor may now hold it."""
    taken = try_lock(descriptor, kind)
    if taken is False:
        return True
    if note is None or (taken and note.get("flock", True)):
        return False
    return lives(note) is not False


def lives(note: dict[str, Any]) -> bool | None:
    """Return whether the process of a note is alive; None if this machine cannot tell."""
    here, then = _life(note.get("process")), note.get("life")
    if note.get("host") != socket.gethostname() or not isinstance(then, list) or len(then) != 3:
        return None
    boot, processes, _ = _life(os.getpid())
    if boot != then[0]:  # the machine was rebooted since
        return False
    return here == then if processes == then[1] else None


def _life(process: Any) -> list[str]:
    """Return what identifies a process: boot id, PID namespace and start time.

    The start time is empty if the process does not exist, and ``alive`` if the system does not
    report it.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        among = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ["", "", "alive" if _exists(process) else ""]
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [boot, among, ""]
    return [boot, among, "" if fields[0] in "ZX" else fields[19]]


def _exists(process: Any) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, TypeError):
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def in_words(note: dict[str, Any] | None) -> str:
    """Return a description of a lock's holder."""
    try:
        assert note is not None
        return f"process {note['process']} on {note['host']} (since {note['since']})"
    except (AssertionError, KeyError):
        return "another run"
