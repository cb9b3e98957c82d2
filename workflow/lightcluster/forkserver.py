"""A server that has imported what steps need, and forks a process for each step.

Starting Python with torch and timm takes seconds, and a run has dozens of steps. A run on the local
machine therefore starts this server (`start`). The command of a step asks the server to execute the
step (`delegation.delegate`), and then acts as a proxy of the forked process: it passes signals on,
and each of the two ends when the other does, with the same status. The process has the arguments,
working directory, environment, limits, threads and streams of the command. If this is not possible
(there is no server, it runs another Python, or an environment variable differs that libraries may
have read on import), the command executes the step itself.

Steps with torch have a separate server, which is started by the first of them. Python's
`multiprocessing.forkserver` only serves child processes of one program; here, the clients are shell
commands.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightcluster import commission
from lightcluster.delegation import VARIABLE, this_python
from lightcluster.threads import VARIABLES as THREADS

METHODS = "lightcluster.methods.registry"
PRELOADED = {
    "plain": (
        "lightcluster.step.commands",
        "lightcluster.datasets.manifest",
        METHODS,
        "lightcluster.evaluation.tables",
        "lightcluster.reporting.report",
        "lightcluster.reporting.analysis",
        "lightcluster.reporting.comparison",
    ),
    "torch": (
        "lightcluster.step.commands",
        "lightcluster.extraction.shard",
        "lightcluster.extraction.backbones.timm_models",
        METHODS,
    ),
}
"""Modules that each server imports, in this order. The modules that methods name are imported after
`METHODS`."""

_EARLY = ("plain",)
"""Servers that accept requests between imports, because the first steps need few of the modules. A
step of the other server would import what is missing a second time, while the server does."""

_ITS_OWN = {*THREADS, "GOTO_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
            "TMPDIR", "TMP", "TEMPDIR", "TEMP", "PATH", "PYTHONPATH", "PWD", "OLDPWD", "SHLVL", "_",
            "TORCHINDUCTOR_CACHE_DIR", commission.VARIABLE, VARIABLE}  # fmt: skip
"""Variables that may differ between a step and the server, because no library reads them on import,
because they are applied again, like the number of threads, or because torch sets them itself."""

_GRACE = 20.0
_PATIENCE = 10.0


# ---- messages on a connection --------------------------------------------------------------------


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return a step and its streams; an empty step if the message is invalid."""
    start, streams, *_ = socket.recv_fds(connection, 8, 3)
    if len(streams) < 3:
        return {}, list(streams)
    with connection.makefile("rb") as stream:
        return json.loads(stream.read(int.from_bytes(start, "big"))), list(streams)


def _answer(connection: socket.socket, **said: Any) -> None:
    with contextlib.suppress(OSError):  # the client has been killed
        connection.sendall(json.dumps(said).encode() + b"\n")


# ---- the server ----------------------------------------------------------------------------------


def start(environ: Mapping[str, str] = os.environ) -> tuple[dict[str, str], int]:
    """Start the server.

    Parameters
    ----------
    environ : mapping of str to str
        The environment of the steps, without `VARIABLE`.

    Returns
    -------
    environment : dict of str to str
        Variables with which the commands of steps find the server.
    owner : int
        A descriptor. The server ends when it is closed, for example at the end of this process.

    Raises
    ------
    OSError
        If the server cannot be started: the folder for temporary files is full or its path too long
        for a socket, or there are too many files or processes.
    """
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as closing:
        folder = Path(tempfile.mkdtemp(prefix="lightcluster-"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        here, owner = os.pipe()
        closing.callback(os.close, here)
        undo.callback(os.close, owner)
        sockets = {name: closing.enter_context(socket.socket(socket.AF_UNIX)) for name in PRELOADED}
        for name, listener in sockets.items():
            listener.bind(str(folder / name))
            listener.listen(1024)
        _launch("plain", folder, here, sockets, environ)
        undo.pop_all()
    return {VARIABLE: f"{this_python()} {folder}"}, owner


def _launch(
    name: str,
    folder: Path,
    owner: int,
    sockets: Mapping[str, socket.socket],
    environ: Mapping[str, str],
) -> None:
    descriptors = {each: listener.fileno() for each, listener in sockets.items()}
    arguments = [name, str(folder), str(owner), json.dumps(descriptors)]
    subprocess.Popen(
        [sys.executable, "-m", "lightcluster.forkserver", *arguments],
        cwd="/",
        # A fork keeps only the calling thread, so there must be no others.
        env={**environ, **dict.fromkeys(THREADS, "1"),
             "PYTHONPATH": str(Path(__file__).parents[1])},
        pass_fds=[owner, *descriptors.values()],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


class ForkServer:
    """The event loop of a server: accepts requests, forks steps and reports their status.

    Parameters
    ----------
    name : str
        A key of `PRELOADED`.
    folder : Path
        Folder of the sockets, which the first server removes at the end.
    owner : int
        Descriptor that reaches end of file when the process that started the server ends.
    sockets : dict of str to socket
        Sockets for requests: its own, and those of servers that have not been started yet.
    """

    def __init__(
        self, name: str, folder: Path, owner: int, sockets: dict[str, socket.socket]
    ) -> None:
        self.name, self.folder, self.owner, self.sockets = name, folder, owner, sockets
        self.environment = dict(os.environ)  # before libraries add to it
        self.steps: dict[int, socket.socket] = {}  # by process
        self.callers: dict[int, list[int]] = {}
        self.ending = 0.0
        self.events = selectors.DefaultSelector()
        self.ended, wake = socket.socketpair()
        for end in (self.ended, wake):
            end.setblocking(False)
        self.wake = wake
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self.events.register(self.ended, selectors.EVENT_READ, self._reap)
        self.events.register(owner, selectors.EVENT_READ, self._end)
        for each, listener in sockets.items():
            if each != name:
                self.events.register(listener, selectors.EVENT_READ, (self._start_another, each))
        if name in _EARLY:
            self._listen()

    def _listen(self) -> None:
        listener = self.sockets[self.name]
        self.events.register(listener, selectors.EVENT_READ, (self._accept, self.name))

    def preload(self) -> bool:
        """Import the modules of this server, serving requests in between; see `serve`."""
        for module in _preloaded(self.name):
            if self.ending:
                break
            importlib.import_module(module)
            if self.serve(wait=0):
                return True
        if self.name not in _EARLY:
            self._listen()
        return False

    def serve(self, wait: float | None = None) -> bool:
        """Serve requests until there are none, or until the owner ends.

        Parameters
        ----------
        wait : float, optional
            Seconds to wait for a request; None: until the owner ends.

        Returns
        -------
        bool
            True in the forked process of a step, whose arguments have been set.
        """
        while not (self.ending and not self.steps):
            if self.ending and time.monotonic() > self.ending:
                for pid in self.steps:
                    os.kill(pid, signal.SIGKILL)
            found = self.events.select(1.0 if self.ending else wait)
            for key, _ in found:
                todo, *given = key.data if isinstance(key.data, tuple) else (key.data,)
                if todo(*given):
                    return True
            if not found and wait is not None and not self.ending:
                return False
        return False

    def _accept(self, name: str) -> bool:
        connection, _ = self.sockets[name].accept()
        connection.settimeout(_PATIENCE)
        server, step, streams = "", dict[str, Any](), list[int]()
        with contextlib.suppress(OSError, ValueError, KeyError):  # the client was killed
            step, streams = _receive(connection)
            if len(streams) == 3 and self._is_fit(step["environment"]):
                server = _server_of(step["arguments"])
        if server == self.name and self._fork(connection, step, streams):
            return True
        if server and server != self.name:
            _answer(connection, server=server)
        if connection not in self.steps.values():
            connection.close()
        for stream in streams:
            os.close(stream)
        return False

    def _is_fit(self, environment: Mapping[str, str]) -> bool:
        """Return whether a step with this environment would import the same as this server."""
        return _bare(environment) == _bare(self.environment)

    def _fork(self, connection: socket.socket, step: dict[str, Any], streams: list[int]) -> bool:
        gc.freeze()  # otherwise the collector would write to shared pages, which copies them
        try:
            pid = os.fork()
        except OSError:  # no memory or too many processes: the command does the step itself
            return False
        if pid:
            self.steps[pid], self.callers[pid] = connection, step["callers"]
            self.events.register(connection, selectors.EVENT_READ, (self._kill, pid))
            return False
        try:
            self._leave()
            _become(step, streams)
            _answer(connection, pid=os.getpid())
            connection.close()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        return True

    def _leave(self) -> None:
        """Close the server's resources in a forked process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.events.close()
        for each in (self.ended, self.wake, *self.sockets.values(), *self.steps.values()):
            each.close()
        os.close(self.owner)

    def _kill(self, pid: int) -> None:
        """Kill a step whose command has ended."""
        if connection := self.steps.get(pid):  # None if the step has just ended
            self.events.unregister(connection)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.ended.recv(4096):
                pass
        for pid in list(self.steps):
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found:
                self._note(self.callers.pop(pid), usage)
                connection = self.steps.pop(pid)
                with contextlib.suppress(KeyError):
                    self.events.unregister(connection)
                _answer(connection, status=status)
                connection.close()

    def _note(self, callers: list[int], usage: resource.struct_rusage) -> None:
        """Write the resource usage of a step to a file, for `usage_of`."""
        used = {"seconds": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss}
        name = "-".join(map(str, callers))
        with contextlib.suppress(OSError):  # a full disk
            (self.folder / name).write_text(json.dumps(used), encoding="utf-8")

    def _start_another(self, name: str) -> None:
        """Start the server `name` when its first step is requested."""
        listener = self.sockets.pop(name)
        self.events.unregister(listener)
        _launch(name, self.folder, self.owner, {name: listener}, self.environment)
        listener.close()

    def _end(self) -> None:
        """Terminate all steps because the run has ended; they have time to clean up."""
        self.events.unregister(self.owner)
        self.ending = time.monotonic() + _GRACE
        for pid in self.steps:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _preloaded(server: str) -> Iterator[str]:
    """Yield the modules to import; each must be imported before the next one is requested."""
    for module in PRELOADED[server]:
        yield module
        if module == METHODS:
            yield from sys.modules[METHODS].PRELOADED[server]


def _server_of(arguments: Sequence[str]) -> str:
    """Return the server for a step; empty for a command that is not a step."""
    from lightcluster.steps import STEPS

    step = STEPS.get(arguments[1].replace("-", "_")) if len(arguments) > 1 else None
    return "" if step is None else "torch" if step.torch else "plain"


def _bare(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _ITS_OWN}


def _become(step: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Set arguments, streams, environment and limits of this process as in the step's command."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, 1, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        for number, (mode, errors) in enumerate(_STREAMS)
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(step["folder"])
    os.umask(step["umask"])
    for number, limits in step["limits"].items():
        resource.setrlimit(int(number), tuple(limits))
    os.environ.clear()
    os.environ.update(step["environment"])
    tempfile.tempdir = None  # so that it is determined again
    sys.argv = list(step["arguments"])
    _use_threads(int(os.environ.get(THREADS[0]) or os.cpu_count() or 1))


_STREAMS = (("r", "strict"), ("w", "strict"), ("w", "backslashreplace"))


def _use_threads(threads: int) -> None:
    """Set the number of threads of libraries that read it from the environment on import."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def usage_of(pid: int, environ: Mapping[str, str] = os.environ) -> tuple[float, float] | None:
    """Return the resource usage of steps that the server executed for a process, and discard it.

    Parameters
    ----------
    pid : int
        Process id of a job's shell, or of a step's command.
    environ : mapping of str to str

    Returns
    -------
    (float, float) or None
        CPU seconds and peak resident memory in MiB; None if the server executed no step for it.
    """
    folder = Path(environ.get(VARIABLE, "").partition(" ")[2] or os.devnull)
    found = [*folder.glob(f"{pid}-*"), *folder.glob(f"*-{pid}")]
    notes = [json.loads(path.read_text("utf-8")) for path in found]
    for path in found:
        path.unlink()
    if not notes:
        return None
    return sum(note["seconds"] for note in notes), max(note["peak"] for note in notes) / 1024


def main() -> None:
    """Run the server; a forked process continues with its step."""
    finished = False

    def leave() -> None:
        # Python would free every object that is shared with the server, which copies its pages.
        if finished:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    atexit.register(leave)  # the first one, which is called after those of libraries
    name, folder, owner, sockets = sys.argv[1:]
    listeners = {each: socket.socket(fileno=fd) for each, fd in json.loads(sockets).items()}
    server = ForkServer(name, Path(folder), int(owner), listeners)
    if server.preload() or server.serve():
        from lightcluster.step.commands import main as do_the_step

        try:
            do_the_step()
        except SystemExit as end:
            finished = not end.code
            raise
    elif name == "plain":
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
