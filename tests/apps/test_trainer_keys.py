"""Keys of Lightning's Trainer that reach into a step: they do what they say, with our parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed

from mixbt_plugin.apps.pretrain import pretrain
from tests.apps.composing import composed

SMALL = (
    *("optimizer.batch_size=32", "+backbone.kwargs.width=8", "data.num_workers=0", "devices=1"),
    *("precision=32", "accelerator=cpu", "data.fraction=0.05", "knn_eval.enabled=false"),
    *("max_epochs=1", "limit_train_batches=2", "limit_val_batches=1", "checkpoint.enabled=false"),
    *("enable_progress_bar=false", "enable_model_summary=false"),
)


class Seen(Callback):
    """What holds after each step."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []
        self.deterministic: set[bool] = set()
        self.anomaly: set[bool] = set()
        self.trainer: Any = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        given = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
        self.gradients.append(torch.cat(given))
        self.deterministic.add(torch.are_deterministic_algorithms_enabled())
        self.anomaly.add(torch.is_anomaly_enabled())
        self.trainer = trainer


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def train(*overrides: str) -> Seen:
    seen = Seen()
    pretrain(composed("pretrain/mnist5k/mixbt.yaml", *SMALL, *overrides), [seen])
    assert len(seen.gradients) == 2
    return seen


@pytest.mark.parametrize("algorithm", ["null", "value"])
def test_gradients_are_clipped(algorithm: str) -> None:
    seen = train("gradient_clip_val=0.01", f"gradient_clip_algorithm={algorithm}")
    order = torch.inf if algorithm == "value" else 2
    for gradient in seen.gradients:
        assert torch.linalg.vector_norm(gradient, order) == pytest.approx(0.01, rel=1e-4)


def test_deterministic() -> None:
    assert train("deterministic=true").deterministic == {True}


def test_detect_anomaly() -> None:
    assert train("detect_anomaly=true").anomaly == {True}


def test_profiler_leaves_its_report_in_the_folder() -> None:
    (report,) = Path(train("profiler=simple").trainer.log_dir).glob("fit-profile*.txt")
    assert "run_training_epoch" in report.read_text()


def test_without_a_profiler_there_is_no_report() -> None:
    assert list(Path(train().trainer.log_dir).glob("*profile*")) == []


@pytest.mark.parametrize("unused", [True, False])
def test_ddp_with_and_without_a_search_for_unused_parameters(unused: bool) -> None:
    strategy = train(f"strategy=ddp_find_unused_parameters_{str(unused).lower()}").trainer.strategy
    assert isinstance(strategy, DDPStrategy)
    assert strategy._ddp_kwargs["find_unused_parameters"] is unused
