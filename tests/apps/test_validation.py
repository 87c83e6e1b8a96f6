"""What is measured on validation images during training, on either host."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import balanced_accuracy_score
from torch.utils.data import DataLoader, TensorDataset

from mixbt_plugin.apps.results import Results
from mixbt_plugin.apps.validation import ValidationAccuracies
from mixbt_plugin.evaluation import OnlineKNN
from mixbt_plugin.host import METHODS
from mixbt_plugin.registry import register
from tests.configs import GENTLE, loader, method_config
from tests.trainers import quiet_trainer

register()
METRICS = {"linear classifier": "val_", "kNN": "val_knn_"}


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, Trainer, Results, TensorDataset]:
    """Two epochs of which the validation images are mostly of one class."""
    views, targets = loader(60).dataset.views[0], torch.arange(60) % 7
    targets[::2] = 0
    validation = TensorDataset(views, targets)
    cfg = method_config(
        "mixbt",
        optimizer=GENTLE,
        knn_eval={"enabled": True, "k": 1, "distance_func": "cosine"},
        max_epochs=2,
    )
    torch.manual_seed(0)
    model = METHODS["mixbt"](cfg)
    results = Results(cfg, "online", METRICS)
    trainer = quiet_trainer(
        max_epochs=2,
        callbacks=[ValidationAccuracies(), results],
        default_root_dir=tmp_path_factory.mktemp("run"),
    )
    trainer.fit(model, loader(64), DataLoader(validation, batch_size=25))
    return model, trainer, results, validation


def test_the_classifiers_balanced_accuracy_is_scikit_learns(trained: Any) -> None:
    model, trainer, results, validation = trained
    images, targets = validation.tensors
    with torch.no_grad():
        guesses = model.eval()(images)["logits"].argmax(dim=1)
    expected = 100 * balanced_accuracy_score(targets, guesses)
    logged = trainer.callback_metrics
    assert float(logged["val_balanced_acc1"]) == pytest.approx(expected)
    assert abs(expected - float(logged["val_acc1"])) > 1
    last, best, *_ = results.rows()
    assert last["balanced_acc1"] == pytest.approx(expected, abs=1e-3)
    assert "balanced_acc1" in best
    assert not model.classifier._forward_hooks


def test_the_knn_of_either_host_is_this_plugins(trained: Any) -> None:
    model, trainer, results, _ = trained
    assert isinstance(model.knn, OnlineKNN)
    assert not model.knn.test_features
    logged = trainer.callback_metrics
    assert logged["val_knn_acc5"] == logged["val_knn_acc1"]
    *_, last, best = results.rows()
    assert last["evaluation"] == best["evaluation"] == "kNN"
    assert last["balanced_acc1"] == pytest.approx(float(logged["val_knn_balanced_acc1"]), abs=1e-3)


def test_a_checkpoint_from_before_is_resumed() -> None:
    """Its history had no balanced accuracies."""
    results = Results(method_config("mixbt"), "online", {"kNN": "val_knn_"})
    results.load_state_dict({"history": {"kNN": [[1, 50.0, 80.0]]}})
    row, _ = results.rows()
    assert (row["acc1"], row["acc5"]) == (50.0, 80.0)
    assert "balanced_acc1" not in row
