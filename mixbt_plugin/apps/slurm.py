"""Jobs that SLURM ends before their time and starts again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from mixbt_plugin.apps.checkpointer import Checkpointer, ends
from mixbt_plugin.apps.printing import say


def slurm_job_id() -> int | None:
    """The job that this process belongs to, if SLURM has started it."""
    return SLURMEnvironment.job_id() if SLURMEnvironment.detect() else None


def is_started_again() -> bool:
    """Whether SLURM has started this process's job before."""
    return slurm_job_id() is not None and int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


class Requeue(Callback):
    """On SIGUSR1 saves a checkpoint and has SLURM start the job again.

    It is the signal of ``#SBATCH --signal=USR1@<seconds>``. Lightning's own handler would save in
    the midst of a step, under a name that the next job in the same working folder goes on from.
    Here it is saved between two steps, in the run's folder, by the first process alone, since the
    signal need not find all processes at the same step.

    Args:
        checkpointer: saves; without one there is nothing to go on from, and no job is requeued.
    """

    def __init__(self, checkpointer: Checkpointer | None) -> None:
        self.checkpointer = checkpointer
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals count; Lightning leaves a handler in place that is there before its own."""
        before = signal.signal(signal.SIGUSR1, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Requeues between two steps of the optimiser within an epoch."""
        loop = trainer.fit_loop
        if not (loop.epoch_loop.batch_progress.is_last_batch or loop._should_accumulate()):
            self._requeue(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Requeues between two epochs."""
        self._requeue(trainer)

    def _requeue(self, trainer: Trainer) -> None:
        if not self._asked or ends(trainer):
            return
        self._asked = False
        if self.checkpointer is None:
            say("slurm", "SIGUSR1: not requeued, since checkpoint.enabled=false saves nothing")
        elif trainer.is_global_zero:
            self.checkpointer.save_alone(trainer)
            say("slurm", f"SIGUSR1: saved {self.checkpointer.last}; requeued")
            subprocess.run(["scontrol", "requeue", _name_of_the_job()], check=True)


def _name_of_the_job() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
