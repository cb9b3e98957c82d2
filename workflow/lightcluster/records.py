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
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snakemake.logging import logger
from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
from snakemake.persistence.file import FilePersistence

from lightcluster.digests import digest_file
from lightcluster.errors import LightClusterError
from lightcluster.files import replacing
from lightcluster.places import record_of

_FOLDERS, _FILES = "folders", "files"
"""Beside Snakemake's own keys, of an output that is a folder: when each of the folders in it was
changed last, and the size of each of its files."""

_FILE = "file"
"""Likewise, of an output that is a file: its size, when it was changed last, and its digest."""


def portrait(file: Path) -> dict[str, int | str]:
    """Return the size of a file in bytes, its time in ns, and the digest of its content."""
    status = file.stat()
    return {"size": status.st_size, "time": status.st_mtime_ns, "digest": digest_file(file)}


def is_altered(file: Path, recorded: dict[str, int | str]) -> bool:
    """Tell whether a file is another than `portrait` saw; it is read only if its time is new."""
    status = file.stat()
    if status.st_size != recorded["size"]:
        return True
    return status.st_mtime_ns != recorded["time"] and digest_file(file) != recorded["digest"]


def inventory(folder: Path) -> dict[str, dict[str, int]]:
    """Return the times of a folder and of those in it, and the sizes of all files, by their place.

    Returns
    -------
    dict of str to dict of str to int
        ``folders`` in nanoseconds and ``files`` in bytes.
    """
    folders, files = dict[str, int](), dict[str, int]()
    for place, _, names in os.walk(folder):
        relative = os.path.relpath(place, folder)
        folders[relative] = os.stat(place).st_mtime_ns
        for name in names:
            path = os.path.join(place, name)
            files[os.path.normpath(os.path.join(relative, name))] = os.lstat(path).st_size
    return {_FOLDERS: folders, _FILES: files}


def lacking(folder: Path, recorded: dict[str, dict[str, int]]) -> str | None:
    """Return a file that is missing from a folder, or has another size; None if all are there.

    The files are looked at only if one of the folders was changed since: a plan of a large dataset
    has a million of them.
    """
    try:
        times = recorded[_FOLDERS].items()
        if all(os.stat(folder / place).st_mtime_ns == time for place, time in times):
            return None
        files = inventory(folder)[_FILES]
    except OSError as error:
        return str(error.filename)
    return next((name for name, size in recorded[_FILES].items() if files.get(name) != size), None)


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
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
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
        try:
            seen = inventory(path) if path.is_dir() else {_FILE: portrait(path)}
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
                with contextlib.suppress(OSError, ValueError, KeyError):
                    recorded = json.loads(record_of(output).read_text(encoding="utf-8"))
                    if output.is_dir():
                        for name, size in inventory(output)[_FILES].items():
                            if recorded[_FILES].get(name) != size:
                                yield output / name
                    elif is_altered(output, recorded[_FILE]):
                        yield output

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold Snakemake's lock."""
        with super().lock():
            self.before_work(self)
            yield


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
