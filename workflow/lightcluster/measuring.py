"""Resource usage of forked steps in Snakemake's benchmarks.

Snakemake samples the child processes of a job's shell. Processes that the fork server creates are
not among them (see `forkserver`), but the server knows their exact usage.

Only the workflow imports this module; steps do not depend on Snakemake.
"""

from __future__ import annotations

import threading

from snakemake import benchmark

from lightcluster.forkserver import usage_of


def measure_forked_steps() -> None:
    """Make Snakemake's benchmarks in this process use the measurements of the fork server."""
    benchmark.BenchmarkTimer = Timer


class Timer(benchmark.BenchmarkTimer):  # type: ignore[misc]
    """Usage of a job: measured by the fork server if it executed the job, else by Snakemake."""

    def __init__(self, pid: int, record: benchmark.BenchmarkRecord, interval: float) -> None:
        super().__init__(pid, record, interval)
        self._looking = threading.Lock()

    def work(self) -> None:
        """Sample the processes, unless the job has ended."""
        with self._looking:
            if not self._stopped or self._times_called == 0:
                super().work()

    def cancel(self) -> None:
        """Stop sampling, and record the exact usage if it is known."""
        super().cancel()
        if used := usage_of(self.pid):
            with self._looking:
                record = self.bench_record
                record.cpu_time, record.max_rss = used
                record.cpu_usage = 100 * record.cpu_time
                record.max_vms = record.max_uss = record.max_pss = None
                record.io_in = record.io_out = None
                record.data_collected = True
