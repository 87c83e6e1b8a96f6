"""Runs as processes side by side."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mixbt_plugin.apps.comparison.plan import Run
from mixbt_plugin.settings import ConfigError

LOCK_FILE = ".lock"
MEMORY = ", as systems end a process when memory runs out"
LOG_FILE = "log.txt"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Failure(NamedTuple):
    """A run that did not come to its end, and the exit status of its process."""

    run: Run
    status: int

    def reason(self) -> str:
        """In a line: the signal, or the last one of the log."""
        if self.status < 0:
            name = signal.Signals(-self.status).name
            return f"it was ended by {name}{MEMORY if name == 'SIGKILL' else ''}."
        return (self.run.folder / LOG_FILE).read_text().strip().splitlines()[-1]


def train_all(
    runs: list[Run],
    output: Path,
    jobs: int,
    threads: int | None,
    after_each: Callable[[], object] = lambda: None,
) -> list[Failure]:
    """Trains the runs that are not done, in their order, each in a process that logs to its folder.

    Where this is stopped, they are stopped too, and go on from their checkpoints the next time.

    Args:
        runs: what is to be done.
        output: folder of the comparison.
        jobs: how many at a time.
        threads: of each; None leaves them to PyTorch.
        after_each: called when one has ended.

    Returns:
        Those that failed; the others are trained nevertheless.

    Raises:
        ConfigError: other processes train in ``output``.
    """
    if all(run.is_done() for run in runs):
        return []
    with _lock(output) as lock:
        open_runs = [run for run in runs if not run.is_done()]
        return _train(open_runs, _Processes(threads, lock), jobs, after_each)


def _train(
    runs: list[Run], processes: _Processes, jobs: int, after_each: Callable[[], object]
) -> list[Failure]:
    if runs:
        first = runs[0].folder / LOG_FILE
        print(f"training: {len(runs)} runs, {jobs} at a time; the first logs to {first}")
    failed = []
    pool = ThreadPoolExecutor(jobs)
    try:
        ends = {pool.submit(processes.run, run): run for run in runs}
        for count, end in enumerate(as_completed(ends), start=1):
            run, status = ends[end], end.result()
            if status != 0:
                failed.append(Failure(run, status))
            state = "FAILED" if status else "done"
            print(f"{state}: {run.arm}, seed {run.seed} ({count} of {len(runs)})", flush=True)
            after_each()
    finally:
        processes.stop()
        pool.shutdown(cancel_futures=True)
    return failed


@contextmanager
def _lock(output: Path) -> Iterator[int]:
    """Keeps a second comparison out of a folder, as long as a process of the first one lives."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"output_dir={str(output)!r}: another mixbt-compare is at work there, or a run of "
                "one that was killed is still ending."
            ) from error
        yield file.fileno()


class _Processes:
    def __init__(self, threads: int | None, lock: int) -> None:
        self.threads = threads
        self.kept_open = [lock]
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
                    stdin=subprocess.PIPE,  # by whose end it knows that this process has ended
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=self.kept_open,
                )
                self.running.add(process)
            with process:
                status = process.wait()
        with self.lock:
            self.running.discard(process)
        return status

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()
