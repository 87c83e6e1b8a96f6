"""Runs as processes side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from mixbt_plugin.apps.comparison.plan import Run

LOG_FILE = "log.txt"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def train_all(
    runs: list[Run], jobs: int, threads: int | None, after_each: Callable[[], object]
) -> list[Run]:
    """Trains the runs that are not done, in their order, each in a process that logs to its folder.

    Where this is stopped, they are stopped too, and go on from their checkpoints the next time.

    Args:
        runs: what is to be done.
        jobs: how many at a time.
        threads: of each; None leaves them to PyTorch.
        after_each: called when one has ended.

    Returns:
        Those that failed; the others are trained nevertheless.
    """
    open_runs = [run for run in runs if not run.is_done()]
    if open_runs:
        first = open_runs[0].folder / LOG_FILE
        print(f"training: {len(open_runs)} runs, {jobs} at a time; the first logs to {first}")
    failed: list[Run] = []
    processes = _Processes(threads)
    pool = ThreadPoolExecutor(jobs)
    try:
        ends = {pool.submit(processes.run, run): run for run in open_runs}
        for count, end in enumerate(as_completed(ends), start=1):
            run = ends[end]
            if end.result() != 0:
                failed.append(run)
            state = "FAILED" if run in failed else "done"
            print(f"{state}: {run.arm}, seed {run.seed} ({count} of {len(open_runs)})", flush=True)
            after_each()
    finally:
        processes.stop()
        pool.shutdown(cancel_futures=True)
    return failed


class _Processes:
    def __init__(self, threads: int | None) -> None:
        self.threads = threads
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopped = False
        self.lock = threading.Lock()

    def run(self, run: Run) -> int:
        run.write()
        command = [sys.executable, "-m", "mixbt_plugin.apps.comparison.one_run"]
        environment = {**os.environ}
        if self.threads:
            environment |= dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        with (run.folder / LOG_FILE).open("ab") as log:
            with self.lock:
                if self.stopped:
                    return 1
                process = subprocess.Popen(
                    [*command, str(run.folder), str(self.threads or 0)],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
                self.running.add(process)
            status = process.wait()
        with self.lock:
            self.running.discard(process)
        return status

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()
