"""The process of one run: ``python -m mixbt_plugin.apps.comparison.one_run FOLDER``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from mixbt_plugin.apps.comparison.arms import parsed
from mixbt_plugin.apps.comparison.evaluator import Evaluator
from mixbt_plugin.apps.comparison.images import Batches, evaluation_images
from mixbt_plugin.apps.comparison.plan import Run
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.keys import CompareEvaluation


def train_and_measure(run: Run, callbacks: Sequence[Callback] = ()) -> None:
    """Trains a run from its last checkpoint, or from the start, and measures it.

    Args:
        run: what is to be trained.
        callbacks: further ones of Lightning's.
    """
    measures = getattr(rank_zero_only, "rank", 0) == 0  # of several processes the first
    evaluation, images = None, None
    if run.evaluation is not None:
        evaluation = CompareEvaluation(**run.evaluation)
        images = _images(run, evaluation) if measures else None
    labels = {"arm": run.arm, "seed": run.seed, "version": run.version}
    evaluator = Evaluator(run.folder, labels, run.epochs, run.clock, evaluation, images)
    cfg = OmegaConf.create(run.cfg)
    # Not "auto", which would not know the run again when its images have moved.
    cfg.resume_from_checkpoint = _last_checkpoint(run.folder)
    pretrain(cfg, [evaluator, *callbacks])
    if measures:
        run.set_done()


def _last_checkpoint(folder: Path) -> str | None:
    found = sorted(folder.glob("*/*/*.ckpt"), key=lambda path: path.stat().st_mtime)
    return str(found[-1]) if found else None


def _images(run: Run, evaluation: CompareEvaluation) -> tuple[Batches, Batches]:
    cfg = parsed(OmegaConf.create(run.cfg))
    found = evaluation_images(cfg, evaluation)
    workers = cfg.data.num_workers
    return Batches(found.references, workers), Batches(found.classified, workers)


def _stop_with_the_comparison() -> None:
    """Ends this process as SIGTERM does when the one that started it is gone.

    That one holds the other end of the pipe, writes nothing into it, and closes it by ending.
    """

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read, whose lock Python wants at its end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    if threads := int(sys.argv[2]):
        torch.set_num_threads(threads)
    _stop_with_the_comparison()
    train_and_measure(Run.read(Path(sys.argv[1])))
