"""Locks that end with the process that holds them, so that none is ever to be cleared away.

They are locks of the operating system (``flock``). Where a file system has none, what the holder
wrote into the file has to do: which process it is, where, and since when.

Why no library: filelock 4.3, portalocker 4.4 and fasteners 0.20 do not say who holds a lock of the
operating system, hand on no token with it, and let nobody look at it without taking it, as every
step does every three seconds. Where there are no such locks, the latter two fail, filelock goes on
after ENOSYS but not after the ENOLCK of NFS, and takes a killed process that nobody has waited for
as alive; flufl.lock 10.0 goes by a lifetime, which has to be waited for after a kill.
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
    """The lock that is a file.

    Parameters
    ----------
    file : Path
        Made when the lock is taken.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._held: int | None = None
        self._owner = 0

    def holder(self) -> str | None:
        """Return which process holds the lock now, in words; None if there is none."""
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
        """Return what to do if the holder is no more, where only its note says that it is not."""
        try:
            with self.file.open("rb") as file:
                note = read_note(file.fileno())
        except OSError:
            return ""
        certain = note is None or note.get("flock", True)
        return "" if certain else f". If that process is no more, delete {self.file}"

    def take(self, token: str = "", wait: float = 1.0) -> bool:
        """Take the lock until this process ends, or `release` is called.

        Parameters
        ----------
        token : str
            Is written into it.
        wait : float
            Seconds to try for: whoever only looks at a lock holds it for an instant.

        Returns
        -------
        bool
            Whether it could be taken.

        Raises
        ------
        OSError
            If the file cannot be made.
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
                time.sleep(0.2)  # of two that come in the same moment, the first sees the other
            named = os.path.samestat(os.fstat(descriptor), self.file.stat())
            if named and read_note(descriptor) == note:
                self._held = descriptor
        except FileNotFoundError:  # its last holder has just removed it
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
        """Give the lock back, if this process holds it; `remove`: and take the file away."""
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
    """Try to take a lock; return whether it is ours now, None where there are no such locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def read_note(descriptor: int) -> dict[str, Any] | None:
    """Return what the holder of a lock wrote into it; None if nobody did, or something else."""
    try:
        note = json.loads(os.pread(descriptor, 4096, 0).split(b"\n")[0])
    except ValueError:
        return None
    return note if isinstance(note, dict) else None


def is_held(descriptor: int, note: dict[str, Any] | None, kind: int) -> bool:
    """Tell whether another process holds a lock; if not, it may be ours until it is closed."""
    taken = try_lock(descriptor, kind)
    if taken is False:
        return True
    if note is None or (taken and note.get("flock", True)):
        return False
    return lives(note) is not False


def lives(note: dict[str, Any]) -> bool | None:
    """Tell whether the process of a note is alive; None if that cannot be told from here."""
    here, then = _life(note.get("process")), note.get("life")
    if note.get("host") != socket.gethostname() or not isinstance(then, list) or len(then) != 3:
        return None
    boot, processes, _ = _life(os.getpid())
    if boot != then[0]:  # this machine was started again since
        return False
    return here == then if processes == then[1] else None


def _life(process: Any) -> list[str]:
    """Return what tells a process from all others: of which boot, among which, when it began.

    When it began is empty if it is no more; where the system says nothing of that, it is ``alive``.
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
    except OSError:  # it belongs to somebody else
        return True
    return True


def in_words(note: dict[str, Any] | None) -> str:
    """Put who holds a lock into words."""
    try:
        assert note is not None
        return f"process {note['process']} on {note['host']} (since {note['since']})"
    except (AssertionError, KeyError):
        return "another run"
