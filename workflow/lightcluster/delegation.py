"""Delegation of a step's command to the fork server (`forkserver`).

Every step of a run starts this module, so it imports as little as possible: most of its time is the
start of Python.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType
    from typing import Any, NoReturn

VARIABLE = "LIGHTCLUSTER_FORKSERVER"
"""Environment variable with an id of the server's Python and, after a space, its folder. If it is
set, even to an empty value, runs start no server."""

_LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})


def delegate() -> None:
    """Let the server execute this command, and exit with its status.

    Returns
    -------
    None
        Only if the server cannot execute it, so that this process must.
    """
    python, _, folder = os.environ.get(VARIABLE, "").partition(" ")
    if not folder or python != this_python():
        return
    step = {
        "arguments": sys.argv,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "umask": _umask(),
        "limits": {number: resource.getrlimit(number) for number in _LIMITS},
        "callers": [os.getpid(), os.getppid()],
    }
    server = "plain"
    while server:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(f"{folder}/{server}")
                _send(connection, step)
            except OSError:
                return
            server = _follow(_answers(connection))


def this_python() -> str:
    """Return an id of this interpreter and package."""
    place = f"{sys.prefix}\n{sys.version}\n{os.path.dirname(__file__)}"
    return f"{zlib.crc32(place.encode(errors='surrogateescape')):08x}"


def _send(connection: socket.socket, step: Mapping[str, Any]) -> None:
    content = json.dumps(step).encode()
    socket.send_fds(connection, [len(content).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(content)


def _answers(connection: socket.socket) -> Iterator[dict[str, Any]]:
    try:
        with connection.makefile("rb") as stream:
            for line in stream:
                yield json.loads(line)
    except ConnectionError:
        return


def _follow(answers: Iterator[dict[str, Any]]) -> str:
    """Act as a proxy of the step's process, or return the name of the server that should do it."""
    pid = 0
    for answer in answers:
        if "server" in answer:
            return str(answer["server"])
        if "status" in answer:
            _end_as(answer["status"])
        pid = answer["pid"]
        _pass_signals_to(pid)
    if pid:  # the server is gone
        _signal(pid, signal.SIGKILL)
        raise SystemExit(1)
    return ""


def _pass_signals_to(pid: int) -> None:
    def forward(number: int, frame: FrameType | None) -> None:
        _signal(pid, number)

    def pause(number: int, frame: FrameType | None) -> None:
        _signal(pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _signal(pid, signal.SIGCONT)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    signal.signal(signal.SIGTSTP, pause)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it has just ended
        return


def _end_as(status: int) -> NoReturn:
    """End this process with the status of the step's process, or by the same signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        raise SystemExit(128 - code)
    raise SystemExit(code)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
