"""Snakemake's benchmarks hold what forked steps take.

Snakemake looks every now and then at the processes below a job's shell. Those that the server
forks are not among them, see `forkserver`; the server knows exactly what each of them took.

Only the workflow imports this module: steps do without Snakemake.
"""

from __future__ import annotations

import threading

from snakemake import benchmark

from lightcluster.forkserver import usage_of


def measure_forked_steps() -> None:
    """Put what the fork server measured into the benchmarks of this process."""
    benchmark.BenchmarkTimer = Timer


class Timer(benchmark.BenchmarkTimer):  # type: ignore[misc]
    """What a job takes: as Snakemake saw it, unless the fork server did the job."""

    def __init__(self, pid: int, record: benchmark.BenchmarkRecord, interval: float) -> None:
        super().__init__(pid, record, interval)
        self._looking = threading.Lock()

    def work(self) -> None:
        """Look at the processes, unless the job is at its end."""
        with self._looking:
            if not self._stopped or self._times_called == 0:
                super().work()

    def cancel(self) -> None:
        """Look no more; put in what is known exactly."""
        super().cancel()
        if used := usage_of(self.pid):
            with self._looking:
                record = self.bench_record
                record.cpu_time, record.max_rss = used
                record.cpu_usage = 100 * record.cpu_time
                record.max_vms = record.max_uss = record.max_pss = None
                record.io_in = record.io_out = None
                record.data_collected = True
