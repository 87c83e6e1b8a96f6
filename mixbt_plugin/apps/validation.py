"""What the commands measure on validation images beside what the host does, on either host."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch import Tensor

from mixbt_plugin.apps.loaders import val_loader
from mixbt_plugin.apps.measuring import evenly, left_as_it_is, passed
from mixbt_plugin.apps.results import Results
from mixbt_plugin.evaluation import BalancedAccuracy, OnlineKNN


class ValidationAccuracies(Callback):
    """Logs the balanced accuracies, and lets the kNN of every method be this plugin's.

    ``val_balanced_acc1`` is that of the classifier, ``val_knn_balanced_acc1`` that of the kNN.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Puts `OnlineKNN` in the place of solo-learn's class, which has other accuracies @5."""
        if getattr(pl_module, "knn_eval", False):
            asked = pl_module.cfg.knn_eval
            pl_module.knn = OnlineKNN(asked.k, asked.distance_func)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forgets the kNN's features of an epoch that no validation followed."""
        if getattr(pl_module, "knn_eval", False):
            pl_module.knn.reset()

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Listens to the classifier, whose logits the host keeps to itself."""
        classifier = pl_module.classifier
        self.balanced = BalancedAccuracy(classifier.out_features).to(pl_module.device)
        self.listening = classifier.register_forward_hook(self._hear)

    def _hear(self, classifier: Any, features: Any, logits: Tensor) -> None:
        self.logits = logits

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Counts what the classifier made of a batch of images and classes."""
        self.balanced.update(self.logits, batch[1])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Logs; Lightning asks callbacks before the method, which then finds the kNN computed."""
        if trainer.sanity_checking:
            return
        pl_module.log("val_balanced_acc1", self.balanced.compute(), sync_dist=True)
        if getattr(pl_module, "knn_eval", False):
            pl_module.knn.compute()
            if pl_module.knn.scores is not None:
                balanced = pl_module.knn.scores.balanced_acc1
                pl_module.log("val_knn_balanced_acc1", balanced, sync_dist=True)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stops listening, and lets the kNN forget: solo-learn's own does that by itself."""
        self.listening.remove()
        if getattr(pl_module, "knn_eval", False):
            pl_module.knn.reset()


LEFT_OUT = "val_knn_leave_one_out_"


class LeaveOneOutKNN(Callback):
    """The kNN beside a training without labels: each validation image is classified by the others.

    Its accuracies are logged as ``val_knn_leave_one_out_acc1`` and so on, and kept as results,
    when others are validated: every ``check_val_every_n_epoch`` epochs, and after the last.

    Args:
        cfg: parsed; with ``knn_eval``.
        images: labelled validation images, not augmented, as (image, class); those that cannot be
            read are left out.
        results: keeps the accuracies.
    """

    def __init__(self, cfg: DictConfig, images: Any, results: Results) -> None:
        self.cfg = cfg
        self.images = images
        self.results = results
        self._loader: Any = None
        self._places: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Takes this process's share; the host's own kNN would have nothing to compare with."""
        pl_module.knn_eval = False
        share = evenly(self.images, len(self.images), trainer.global_rank, trainer.world_size)
        self._loader = val_loader(share, self.cfg)
        self._places = torch.tensor(share.indices)

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Classifies and logs."""
        epoch = trainer.current_epoch + 1
        if epoch % self.cfg.check_val_every_n_epoch and epoch != trainer.max_epochs:
            return
        asked = self.cfg.knn_eval
        knn = OnlineKNN(asked.k, asked.distance_func, leave_one_out=True).to(pl_module.device)
        with left_as_it_is(pl_module):
            pl_module.eval()
            places = self._places.split(self._loader.batch_size)
            for (images, targets), of_batch in zip(self._loader, places):
                feats = passed(trainer, pl_module, images)["feats"]
                # Not one that stands for another: a copy would be its own nearest neighbour.
                read = (~self.images.replaced[of_batch]).to(feats.device)
                targets = targets.to(feats.device)
                knn.update(test_features=feats[read], test_targets=targets[read])
        knn.compute()
        if knn.scores is not None:
            scores = knn.scores._asdict()
            pl_module.log_dict({f"{LEFT_OUT}{name}": one for name, one in scores.items()})
            self.results.keep(trainer)
