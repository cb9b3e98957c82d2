"""Provenance records of results, stored next to them in folders ``.provenance``.

Snakemake stores such records (settings, inputs and command of the job that wrote a file) in
``.snakemake``, which may be lost or belong to other results. Stored next to the results, they move
with them. A result without a record is recomputed, and so is one that was changed since it was
written: a file that was replaced or edited, or a folder in which a file is missing.

Only the workflow imports this module; steps do not depend on Snakemake.
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
"""Size, time and digest of a file, see `portrait`; a list because JSON has no tuples."""


class Inventory(TypedDict):
    """Further keys in the record of an output folder; see `inventory`."""

    folders: dict[str, int]
    files: dict[str, Seen]


_DIGESTED = 2**20
"""Files in a folder are digested up to this size in bytes."""

_LOOKED_AT = 512
"""In folders with at most this many files, all are always checked: at 2 µs per file, this takes
less than a second for all shards."""

_FILE = "file"
"""Further key in the record of an output file, with what was `Seen` of it."""


def portrait(file: Path, most: float = math.inf, *, follow: bool = True) -> Seen:
    """Return the size of a file in bytes, its modification time in ns, and its digest.

    The digest of a file of more than `most` bytes is None. `follow`: whether links are followed.
    """
    status = file.stat(follow_symlinks=follow)
    digest = digest_file(file) if status.st_size <= most else None
    return [status.st_size, status.st_mtime_ns, digest]


def is_altered(file: Path, seen: Seen, *, follow: bool = True) -> bool:
    """Return whether a file differs from its `portrait`; it is read only if its time differs."""
    size, time, digest = seen
    status = file.stat(follow_symlinks=follow)
    if status.st_size != size:
        return True
    return status.st_mtime_ns != time and digest is not None and digest_file(file) != digest


def inventory(folder: Path) -> Inventory:
    """Return the state of a folder, for a later comparison by `lacking`.

    Returns
    -------
    dict
        ``folders``: modification time in ns of the folder and its subfolders, by relative path.
        ``files``: size in bytes, modification time and digest of each file, by relative path. The
        digest of files over 1 MiB, such as features, which have their own checksums, is None.
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
    """Return a file of a folder that is missing or was changed; None if all are unchanged.

    The files of a very large folder are checked only if the modification time of the folder or of a
    subfolder has changed: otherwise, planning a large dataset would check a million files.
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
    """Return whether a file in a folder is missing or differs from what was seen."""
    try:
        return is_altered(path, seen, follow=False)
    except FileNotFoundError:
        return True


_DAMAGED = (ValueError, LookupError, TypeError, AttributeError)
"""Exceptions raised by reading an invalid record or one of an earlier version."""

UNKNOWN = "there is no record of how it was made"


class RecordsBesideResults(FilePersistence):  # type: ignore[misc]  # Snakemake has no types
    """Snakemake's persistence, with provenance records stored next to the results."""

    before_work: Callable[[Any], None]
    """Called with this object when a run (not a dry run) is planned and holds the lock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._records: dict[str, MetadataRecord | None] = {}
        self._said: set[str] = set()

    def metadata(self, target: Any) -> MetadataRecord | None:
        """Return the record of a file.

        The record of a file that was changed matches no job, so the file is recomputed.
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
        """Return the record of a file and, if the file must be recomputed, the reason."""
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
                return None, "it was changed since it was made"
        except (OSError, *_DAMAGED):
            return None, UNKNOWN
        return record, None

    def _say(self, key: str, problem: str) -> None:
        """Log what is recomputed and why; missing records are reported only once."""
        if self.dag.workflow.is_main_process and (problem != UNKNOWN or UNKNOWN not in self._said):
            also = ", and so is everything else without a record" * (problem == UNKNOWN)
            logger.warning(f"{key}: {problem}; it is recomputed{also}")
        self._said.add(problem)

    def _read_record(self, key: str) -> MetadataRecord | None:
        try:
            text = record_of(Path(key)).read_text(encoding="utf-8")
            return MetadataRecord.model_validate_json(text)
        except (OSError, ValueError):
            return None

    def _write_record(self, key: str, record: MetadataRecord) -> None:
        path = Path(key)
        if not path.exists():  # its job has failed, which Snakemake reports
            return
        try:
            seen: dict[str, Any] = {**inventory(path)} if path.is_dir() else {_FILE: portrait(path)}
            content = {**dict(record.items()), **seen}
            with replacing(record_of(path)) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")
        except (OSError, LightClusterError) as error:
            logger.warning(
                f"{key}: its record cannot be written ({error}), so the next run recomputes it"
            )

    def _delete_record(self, key: str) -> bool:
        try:
            record_of(Path(key)).unlink()
        except FileNotFoundError:
            return False
        return True

    def _mark_incomplete(self, key: str, external_jobid: str | None) -> None:
        self._delete_record(key)  # it does not describe the result of the new job
        super()._mark_incomplete(key, external_jobid)

    def _clear_cache(self) -> None:
        super()._clear_cache()
        self._records.clear()

    def planned(self) -> list[str]:
        """Return the outputs of all requested jobs, whether they need to run or not."""
        return [str(file) for job in self.dag.jobs for file in job.output]

    def foreign(self) -> Iterator[Path]:
        """Yield files of users in the outputs of jobs that will run.

        These are files that were added to an output folder, and outputs that were changed.
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
    """Yield the files in a folder that are not recorded, or differ from the record."""
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            seen = recorded.get(str(path.relative_to(folder)))
            if seen is None or _differs(path, seen):
                yield path


def keep_beside_results(before_work: Callable[[Any], None]) -> None:
    """Make the workflow that is being parsed store its records next to its results.

    Parameters
    ----------
    before_work : callable
        See `RecordsBesideResults`.
    """
    from snakemake import workflow as module  # circular import

    RecordsBesideResults.before_work = staticmethod(before_work)
    module.FilePersistence = RecordsBesideResults
