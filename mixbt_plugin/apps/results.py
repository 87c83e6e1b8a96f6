"""Accuracies with their labels: online or offline, last or best epoch, on which split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from mixbt_plugin.data import NetworkImages, properties

RESULTS_FILE = "results.json"
ACCURACIES = ("acc1", "acc5", "balanced_acc1")
Row = dict[str, Any]


class Results(Callback):
    """Keeps the validation accuracies of each epoch; the last and the best are the results.

    The best epoch is the one with the highest accuracy @1 on the very split that is reported, as
    in the official codes; so its number is too good, and the last epoch's is the one to compare.

    Args:
        cfg: parsed; tells the data set and the number of epochs.
        mode: ``online``, measured while the backbone is pre-trained, or ``offline``.
        metrics: by name of what is evaluated, the prefix of its logged `ACCURACIES`:
            ``<prefix>acc1`` and so on.
        images: what is evaluated on; said in each row where it is given.
    """

    def __init__(
        self,
        cfg: DictConfig,
        mode: str,
        metrics: dict[str, str],
        images: NetworkImages | None = None,
    ) -> None:
        self.cfg = cfg
        self.images = images
        self.mode = mode
        self.metrics = metrics
        self.history: dict[str, list[list[float]]] = {name: [] for name in metrics}

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Keeps the accuracies of the epoch."""
        if not trainer.sanity_checking:
            self.keep(trainer)

    def keep(self, trainer: Trainer) -> None:
        """Takes what has been logged as the epoch's accuracies."""
        logged = trainer.callback_metrics
        for name, prefix in self.metrics.items():
            if f"{prefix}acc1" in logged:
                accuracies = [round(float(logged[f"{prefix}{which}"]), 4) for which in ACCURACIES]
                self.history[name].append([trainer.current_epoch + 1, *accuracies])

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Writes ``results.json`` into the run's folder."""
        folder = trainer.log_dir
        if trainer.is_global_zero and folder and self.rows():
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / RESULTS_FILE).write_text(json.dumps(self.rows(), indent=2) + "\n")

    def rows(self) -> list[Row]:
        """A row for the last, and one for the best epoch, of each thing that is evaluated."""
        rows = []
        for name, history in self.history.items():
            if history:
                best = max(history, key=lambda entry: entry[1])
                rows.append(self._row(name, self._which(history[-1]), history[-1]))
                rows.append(self._row(name, "best", best))
        return rows

    def _which(self, entry: list[float]) -> str:
        return "last" if entry[0] == self.cfg.max_epochs else "last validated"

    def _row(self, name: str, which: str, entry: list[float]) -> Row:
        split = properties(self.cfg.data.dataset).split
        return {
            "evaluation": name,
            "mode": self.mode,
            "dataset": self.cfg.data.dataset,
            "split": split,
            "which": which,
            **({"chosen_on": split} if which == "best" else {}),
            "epoch": int(entry[0]),
            "epochs": self.cfg.max_epochs,
            **(self.images.labels() if self.images else {}),
            # Those of an older checkpoint lack the last.
            **dict(zip(ACCURACIES, entry[1:])),
        }

    @rank_zero_only
    def print(self) -> None:
        """Prints the rows as sentences, on one process."""
        for row in self.rows():
            print(sentence(row))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to know of the epochs before it."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the epochs before over."""
        self.history = {name: list(state_dict["history"].get(name, [])) for name in self.metrics}


def sentence(row: Row) -> str:
    """A row of results with all its labels, as one line."""
    chosen = ", chosen on this split" if "chosen_on" in row else ""
    balanced = f" balanced {row['balanced_acc1']:.2f}" if "balanced_acc1" in row else ""
    return (
        f"{row['evaluation']}, {row['mode']}, {row['which']} epoch ({row['epoch']} of "
        f"{row['epochs']}{chosen}), {row['split']} split of {row['dataset']}: "
        f"acc@1 {row['acc1']:.2f} acc@5 {row['acc5']:.2f}{balanced}"
    )
