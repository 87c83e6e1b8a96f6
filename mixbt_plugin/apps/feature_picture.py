"""A picture of the features where a training ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from mixbt_plugin.apps.loaders import val_loader
from mixbt_plugin.apps.measuring import (
    evenly,
    has_validation_images,
    images_to_measure,
    left_as_it_is,
    passed,
)
from mixbt_plugin.apps.pictures import draw_features
from mixbt_plugin.apps.printing import say
from mixbt_plugin.data import NetworkImages, still_transform

FILE = "features.png"


class FeaturePicture(Callback):
    """Draws the backbone's features of images, not augmented, into the run's folder.

    They are validation images, or training images where there are no others.

    Args:
        cfg: parsed; ``diagnostics.picture``: how many images, evenly spread over all.
        images: what the network takes.
    """

    def __init__(self, cfg: DictConfig, images: NetworkImages) -> None:
        self.cfg = cfg
        self.images = images

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draws, on one process; of a try that writes nothing, nothing."""
        if not trainer.is_global_zero or self.cfg.fast_dev_run:
            return
        still = still_transform(self.cfg.data.dataset, self.images)
        images = images_to_measure(self.cfg, still)
        some = evenly(images, min(self.cfg.diagnostics.picture, len(images)))
        if len(some) < 3:
            say("picture", f"none: {len(some)} images are too few")
            return
        features, classes = [], []
        with left_as_it_is(pl_module):
            pl_module.eval()
            for batch, targets in val_loader(some, self.cfg):
                features.append(passed(trainer, pl_module, batch)["feats"].float().cpu())
                classes += [str(int(target)) for target in targets]
        which = "validation" if has_validation_images(self.cfg) else "training"
        title = (
            f"features of {self.cfg.name}, {len(some):,} {which} images of {self.cfg.data.dataset}"
        )
        file = Path(trainer.log_dir or ".") / FILE
        labels = None if "-1" in classes else classes
        drawn = draw_features(torch.cat(features).numpy(), labels, title, file)
        say("picture", f"{file}: {' and '.join(drawn)}")
