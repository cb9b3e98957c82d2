"""What made a result is recorded beside it, in a folder ``.provenance`` among the results.

Snakemake's own records (settings, inputs and command of the job that made a file) are in
``.snakemake``, which may be lost, or belong to other results than those that were moved here. Kept
beside the results, they go where these go. A result of which nobody can tell what made it is made
again; so is one that is not as it was made: another file in its place, a file changed by hand, a
folder in which a file is missing.

Only the workflow imports this module: steps do without Snakemake.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from snakemake.logging import logger
from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
from snakemake.persistence.file import FilePersistence

from lightcluster.digests import digest_file
from lightcluster.errors import LightClusterError
from lightcluster.files import replacing
from lightcluster.places import record_of

Seen = list[Any]
"""Size, time and digest of a file, see `portrait`; a list, for JSON has no tuples."""


class Inventory(TypedDict):
    """Beside Snakemake's own keys, of an output that is a folder; see `inventory`."""

    folders: dict[str, int]
    files: dict[str, Seen]


_DIGESTED = 2**20
"""Bytes of a file in a folder whose content is digested, at most."""

_LOOKED_AT = 512
"""Files of a folder that are looked at one by one each time, at most: at 2 µs a file, those of all
shards take less than a second."""

_FILE = "file"
"""Beside Snakemake's own keys, of an output that is a file: what was `Seen` of it."""


def portrait(file: Path, most: float = math.inf, *, follow: bool = True) -> Seen:
    """Return the size of a file in bytes, its time in ns, and the digest of its content.

    The digest of a file of more than `most` bytes is None. A link is followed, or looked at itself.
    """
    status = file.stat(follow_symlinks=follow)
    digest = digest_file(file) if status.st_size <= most else None
    return [status.st_size, status.st_mtime_ns, digest]


def is_altered(file: Path, seen: Seen, *, follow: bool = True) -> bool:
    """Tell whether a file is another than `portrait` saw; it is read only if its time is new."""
    size, time, digest = seen
    status = file.stat(follow_symlinks=follow)
    if status.st_size != size:
        return True
    return status.st_mtime_ns != time and digest is not None and digest_file(file) != digest


def inventory(folder: Path) -> Inventory:
    """Return what `lacking` compares a folder with.

    Returns
    -------
    dict
        ``folders``: for it and each folder in it, by place, the time in nanoseconds. ``files``: for
        each file, by place, its size in bytes, its time, and the digest of its content; None of one
        of over 1 MiB, such as features, which have checksums of their own.
    """
    folders: dict[str, int] = {}
    files: dict[str, Seen] = {}
    for place, within, names in os.walk(folder):
        within.sort()
        relative = os.path.relpath(place, folder)
        folders[relative] = os.stat(place).st_mtime_ns
        for name in sorted(names):
            where = os.path.normpath(os.path.join(relative, name))
            files[where] = portrait(Path(place, name), _DIGESTED, follow=False)
    return {"folders": folders, "files": files}


def lacking(folder: Path, recorded: Inventory) -> str | None:
    """Return a file that is missing from a folder, or was changed; None if all are as they were.

    Of a folder of very many files they are looked at only if it, or one in it, has another time: a
    plan of a large dataset would have a million to look at.
    """
    files = recorded["files"]
    try:
        times = recorded["folders"].items()
        same = all(os.stat(folder / place).st_mtime_ns == time for place, time in times)
        if same and len(files) > _LOOKED_AT:
            return None
        return next((name for name, seen in files.items() if _differs(folder / name, seen)), None)
    except OSError as error:
        return str(error.filename)


def _differs(path: Path, seen: Seen) -> bool:
    """Tell whether a file in a folder is missing, or another than was seen."""
    try:
        return is_altered(path, seen, follow=False)
    except FileNotFoundError:
        return True


_DAMAGED = (ValueError, LookupError, TypeError, AttributeError)
"""What a record leads its readers to that is none, or of an earlier version."""

UNKNOWN = "there is no record of what made it"


class RecordsBesideResults(FilePersistence):  # type: ignore[misc]  # Snakemake has no types
    """Snakemake's persistence, but for the records of what made a file."""

    before_work: Callable[[Any], None]
    """Called with this object when a run, dry runs excepted, is planned and holds the lock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._records: dict[str, MetadataRecord | None] = {}
        self._said: set[str] = set()

    def metadata(self, target: Any) -> MetadataRecord | None:
        """Return the record of a file.

        That of a file which is there, but not as recorded, fits no job: it is made again.
        """
        key = self._get_key(target)
        if key not in self._records:
            record, problem = self._examine(key)
            if problem:
                self._say(key, problem)
                record = MetadataRecord(
                    record_format_version=RECORD_FORMAT_VERSION, params=[problem]
                )
            self._records[key] = record
        return self._records[key]

    def _examine(self, key: str) -> tuple[MetadataRecord | None, str | None]:
        """Return the record of a file and, if the file cannot stay as it is, why."""
        if not os.path.lexists(key):
            return self._read_record(key), None
        try:
            content = json.loads(record_of(Path(key)).read_text(encoding="utf-8"))
            record = MetadataRecord.model_validate(content)
            if record.record_format_version < RECORD_FORMAT_VERSION:
                return None, UNKNOWN
            if os.path.isdir(key):
                if name := lacking(Path(key), content):
                    return None, f"{name} is missing or was changed"
            elif is_altered(Path(key), content[_FILE]):
                return None, "it is no longer the file that was made"
        except (OSError, *_DAMAGED):
            return None, UNKNOWN
        return record, None

    def _say(self, key: str, problem: str) -> None:
        """Say what is made again, and why: once, where nobody knows what made it."""
        if self.dag.workflow.is_main_process and (problem != UNKNOWN or UNKNOWN not in self._said):
            also = ", and so is everything else without a record" * (problem == UNKNOWN)
            logger.warning(f"{key}: {problem}; it is made again{also}")
        self._said.add(problem)

    def _read_record(self, key: str) -> MetadataRecord | None:
        try:
            text = record_of(Path(key)).read_text(encoding="utf-8")
            return MetadataRecord.model_validate_json(text)
        except (OSError, ValueError):
            return None

    def _write_record(self, key: str, record: MetadataRecord) -> None:
        path = Path(key)
        if not path.exists():  # its job has failed, which is said by itself
            return
        try:
            seen: dict[str, Any] = {**inventory(path)} if path.is_dir() else {_FILE: portrait(path)}
            content = {**dict(record.items()), **seen}
            with replacing(record_of(path)) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")
        except (OSError, LightClusterError) as error:
            logger.warning(
                f"{key}: what made it cannot be recorded ({error}): the next run makes it again"
            )

    def _delete_record(self, key: str) -> bool:
        try:
            record_of(Path(key)).unlink()
        except FileNotFoundError:
            return False
        return True

    def _mark_incomplete(self, key: str, external_jobid: str | None) -> None:
        self._delete_record(key)  # whatever comes of the job, it is not what the record says
        super()._mark_incomplete(key, external_jobid)

    def _clear_cache(self) -> None:
        super()._clear_cache()
        self._records.clear()

    def planned(self) -> list[str]:
        """Return the results of all jobs that were asked for, to be run or not."""
        return [str(file) for job in self.dag.jobs for file in job.output]

    def foreign(self) -> Iterator[Path]:
        """Yield what others have put where results are to be made again.

        Files that were added to a folder, and such as are no longer those that were made.
        """
        for job in self.dag.needrun_jobs():
            for output in map(Path, job.output):
                with contextlib.suppress(OSError, *_DAMAGED):
                    recorded = json.loads(record_of(output).read_text(encoding="utf-8"))
                    if output.is_dir():
                        yield from _others(output, recorded["files"])
                    elif is_altered(output, recorded[_FILE]):
                        yield output

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold Snakemake's lock."""
        with super().lock():
            self.before_work(self)
            yield


def _others(folder: Path, recorded: dict[str, Seen]) -> Iterator[Path]:
    """Yield the files in a folder that are not, or not as, recorded."""
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            seen = recorded.get(str(path.relative_to(folder)))
            if seen is None or _differs(path, seen):
                yield path


def keep_beside_results(before_work: Callable[[Any], None]) -> None:
    """Let the workflow whose Snakefile is being read keep its records beside its results.

    Parameters
    ----------
    before_work : callable
        See `RecordsBesideResults`.
    """
    from snakemake import workflow as module  # which imports its own importers

    RecordsBesideResults.before_work = staticmethod(before_work)
    module.FilePersistence = RecordsBesideResults
