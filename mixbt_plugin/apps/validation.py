"""What the commands measure on validation images beside what the host does, on either host."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

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
