"""The process of one run: ``python -m mixbt_plugin.apps.comparison.one_run FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

from mixbt_plugin.apps.comparison.evaluator import Evaluator
from mixbt_plugin.apps.comparison.images import Batches, evaluation_images
from mixbt_plugin.apps.comparison.plan import Run, parsed
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.keys import CompareEvaluation


def train_and_measure(run: Run, callbacks: Sequence[Callback] = ()) -> None:
    """Trains a run from its last checkpoint, or from the start, and measures it.

    Args:
        run: what is to be trained.
        callbacks: further ones of Lightning's.
    """
    evaluation, images = None, None
    if run.evaluation is not None:
        evaluation = CompareEvaluation(**run.evaluation)
        images = _images(run, evaluation)
    labels = {"arm": run.arm, "seed": run.seed, "version": run.version}
    evaluator = Evaluator(run.folder, labels, run.epochs, run.clock, evaluation, images)
    pretrain(OmegaConf.create(run.cfg), [evaluator, *callbacks])


def _images(run: Run, evaluation: CompareEvaluation) -> tuple[Batches, Batches]:
    cfg = parsed(OmegaConf.create(run.cfg))
    found = evaluation_images(cfg, evaluation)
    workers = cfg.data.num_workers
    return Batches(found.references, workers), Batches(found.classified, workers)


if __name__ == "__main__":
    if threads := int(sys.argv[2]):
        torch.set_num_threads(threads)
    train_and_measure(Run.read(Path(sys.argv[1])))
