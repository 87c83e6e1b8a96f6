"""The callback that measures a run while it trains, and knows what it has spent."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from mixbt_plugin.apps.comparison.images import Batches, features_of
from mixbt_plugin.apps.comparison.measures import accuracies, ranks, spectra
from mixbt_plugin.apps.measuring import modes_kept
from mixbt_plugin.checkpoints import written_whole
from mixbt_plugin.keys import CompareEvaluation

COLUMNS = ("arm", "seed", "epoch", "steps", "images", "seconds", "measure", "value", "version")
MEASURES_FILE = "measures.csv"
SPECTRA_FILE = "spectra.npz"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Evaluator(Callback):
    """Writes ``measures.csv`` and the spectra of the last evaluation into a run's folder.

    Stands before the `Checkpointer` among the callbacks: what a checkpoint says was spent
    includes its epoch, whose measures are written by then.

    Args:
        folder: of the run.
        labels: ``arm``, ``seed`` and ``version`` of every row.
        epochs: after which it measures; 0 is the untrained network.
        clock: ``wall``, or ``cpu``: seconds of the process on a core, for machines that are shared.
        evaluation: the probes' settings; None measures the time and the loss alone.
        images: to learn from and to classify.
    """

    def __init__(
        self,
        folder: Path,
        labels: dict[str, Any],
        epochs: list[int],
        clock: str,
        evaluation: CompareEvaluation | None = None,
        images: tuple[Batches, Batches] | None = None,
    ) -> None:
        self.folder = folder
        self.labels = labels
        self.epochs = epochs
        self.now = CLOCKS[clock]
        self.evaluation = evaluation
        self.images = images
        self.seconds = 0.0
        self.started = 0.0
        self.rows: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forgets what a run that is resumed measured after its checkpoint."""
        if trainer.current_epoch == 0:
            if 0 in self.epochs:
                self._measure(trainer, pl_module, 0)
        elif trainer.is_global_zero:
            known = pd.read_csv(self.folder / MEASURES_FILE)
            self.rows = known[known.epoch <= trainer.current_epoch].to_dict("records")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Starts the clock."""
        self.started = self._read_clock(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stops the clock, and measures."""
        self.seconds += self._read_clock(pl_module) - self.started
        epoch = trainer.current_epoch + 1
        if epoch in self.epochs:
            self._measure(trainer, pl_module, epoch)

    def _read_clock(self, model: Any) -> float:
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)  # which may still be at work on the last steps
        return self.now()

    def _measure(self, trainer: Trainer, model: Any, epoch: int) -> None:
        # Not on the first process alone: what is logged is averaged over all when it is read.
        logged = trainer.callback_metrics
        if trainer.is_global_zero:
            values = {
                name.removesuffix("_epoch"): float(value)
                for name, value in logged.items()
                if name.startswith("train_") and name.endswith("_epoch") and epoch
            }
            if self.evaluation and self.images:
                found = self._of_features(trainer, model, self.evaluation, self.images)
                values = {**found, **values}
            spent = {"epoch": epoch, **self._spent(trainer), "seconds": round(self.seconds, 2)}
            self.rows += [
                {**self.labels, **spent, "measure": name, "value": round(value, 6)}
                for name, value in values.items()
            ]
            write_rows(self.rows, self.folder / MEASURES_FILE)
        trainer.strategy.barrier()

    def _spent(self, trainer: Trainer) -> dict[str, int]:
        model: Any = trainer.lightning_module
        batches = (trainer.fit_loop.total_batch_idx + 1) * trainer.world_size
        return {"steps": trainer.global_step, "images": batches * model.cfg.optimizer.batch_size}

    def _of_features(
        self,
        trainer: Trainer,
        model: Any,
        evaluation: CompareEvaluation,
        images: tuple[Batches, Batches],
    ) -> dict[str, float]:
        with modes_kept(model):
            model.eval()
            references, classified = (features_of(trainer, model, batches) for batches in images)
        found = spectra(classified)
        arrays: dict[str, Any] = {name: values.numpy() for name, values in found.items()}
        np.savez(self.folder / SPECTRA_FILE, **arrays)
        return {**accuracies(references, classified, evaluation), **ranks(found)}

    def state_dict(self) -> dict[str, Any]:
        """What a run that is resumed has spent."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it over."""
        self.seconds = state_dict["seconds"]


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes a table of `COLUMNS`, whole or not at all."""
    with written_whole(path) as file:
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(file, index=False)
