"""Processes of their own that find PyTorch and Lightning imported.

To import them takes 8 s of a core, and the tests start processes by the dozen. A server, which
imports nothing of ours, does it once and is forked for each.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["torch", "torchvision", "lightning.pytorch", "timm", "sklearn.linear_model", "hydra"]
)


class Started:
    """A process that runs, with as much of `subprocess.Popen` as the tests use.

    Args:
        target: at the top of its module.
        args: of the target.
        environment: of the process, beside this one's.
    """

    def __init__(
        self, target: Callable[..., object], *args: Any, environment: Mapping[str, str] = {}
    ) -> None:
        self.args = [target.__name__, *map(str, args)]
        self._folder = TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        self._process = _SERVER.Process(
            target=_run,
            args=(target, args, os.getcwd(), {**os.environ, **environment}, self._outputs),
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        stdout, stderr = (path.read_text() for path in self._outputs)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """With all that it has started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended, or has no group yet
            self._process.kill()
        self._process.join()


def start(module: str, *words: str, **environment: str) -> Started:
    """``python -m <module> <words>``, in this folder."""
    return Started(_run_module, module, words, environment=environment)


def run(
    module: str, *words: str, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`start`, until it has ended; with ``check`` it must have succeeded."""
    process = start(module, *words, **environment)
    try:
        stdout, stderr = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode is not None
    assert not check or process.returncode == 0, stderr[-3000:]
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def saved_by_ranks(
    run_rank: Callable[[int, int, str, int], None], folder: Path, count: int
) -> list[Any]:
    """Runs ``run_rank(rank, port, folder, count)`` in processes; gives what each saved, in order.

    Args:
        run_rank: at the top of its module; saves ``<folder>/<rank>.pt``.
        folder: an empty one.
        count: of processes.

    Returns:
        What was saved, as many as processes.
    """
    port = free_port()
    ranks = [Started(run_rank, rank, port, str(folder), count) for rank in range(count)]
    try:
        while any(rank.poll() is None for rank in ranks):
            # One that fails leaves the others waiting for it.
            for rank in ranks:
                assert not rank.poll(), rank.communicate()[1][-3000:]
            time.sleep(0.02)
        for rank in ranks:
            assert rank.poll() == 0, rank.communicate()[1][-3000:]
    finally:
        for rank in ranks:
            rank.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(
    target: Callable[..., object],
    args: Sequence[Any],
    folder: str,
    environment: Mapping[str, str],
    outputs: Sequence[Path],
) -> None:
    os.setsid()
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    ours = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder, *filter(None, ours)]
    target(*args)


def _run_module(module: str, words: Sequence[str]) -> None:
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
