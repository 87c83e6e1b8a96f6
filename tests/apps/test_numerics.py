"""NaN, infinity and collapse in a training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from mixbt_plugin.apps.checkpointer import Checkpointer
from mixbt_plugin.apps.numerics import NumericalGuard
from mixbt_plugin.host import METHODS
from mixbt_plugin.keys import Numerics
from mixbt_plugin.registry import register
from tests.configs import loader, method_config
from tests.trainers import quiet_trainer

register()
METHODS_TO_POISON = [
    "mixbt",
    "multiaug_barlow_twins",
    "multiaug_vicreg",
    "hsic_ssl",
    "barlow_twins",
]
KNN = {"enabled": True, "k": 3, "distance_func": "cosine"}
CHECKPOINT = {"enabled": True, "dir": "models", "frequency": 1, "keep_prev": False}


class Poison(Callback):
    """Makes the input, the features, the embeddings or the gradient of one step bad."""

    def __init__(self, where: str, value: float = float("nan"), steps: Any = (2,)) -> None:
        self.where, self.value, self.steps = where, value, steps
        self.bad = False

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        for place, module in (("features", "backbone"), ("embeddings", "projector")):
            if self.where == place:
                getattr(pl_module, module).register_forward_hook(self.spoil, prepend=True)
        if self.where == "gradient":
            weight = next(pl_module.projector.parameters())
            weight.register_hook(lambda grad: grad * self.value if self.bad else grad)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.bad = trainer.fit_loop.epoch_loop.total_batch_idx in self.steps
        if self.bad and self.where == "input":
            batch[1][1][3, 0, 5, 5] = self.value

    def spoil(self, module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output * self.value if self.bad and module.training else output


class Snapshots(Callback):
    """The weights, buffers and optimiser state after each batch."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, *args: Any) -> None:
        module = args[1]
        state = {name: x.clone() for name, x in module.state_dict().items()}
        for i, of_one in enumerate(module.optimizers().optimizer.state.values()):
            state |= {f"{i}.{key}": torch.as_tensor(x).clone() for key, x in of_one.items()}
        self.taken.append(state)


def fit(
    method: str,
    *callbacks: Callback,
    epochs: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    max_steps: int = -1,
    log_every_n_steps: int = 1,
    numerics: Mapping[str, Any] = MappingProxyType({}),
    **overrides: Any,
) -> Trainer:
    cfg = method_config(method, max_epochs=epochs, checkpoint=CHECKPOINT, **overrides)
    guard = NumericalGuard(Numerics(**numerics), log_every_n_steps)
    torch.manual_seed(0)
    trainer = quiet_trainer(
        max_epochs=epochs,
        max_steps=max_steps,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)] if scaler else None,
        callbacks=[*callbacks, guard, Checkpointer(cfg)],
        log_every_n_steps=1,
        accumulate_grad_batches=overrides.get("accumulate_grad_batches", 1),
    )
    trainer.fit(METHODS[method](cfg), loader())
    return trainer


def guard_of(trainer: Trainer) -> NumericalGuard:
    (guard,) = [c for c in trainer.callbacks if isinstance(c, NumericalGuard)]  # type: ignore[attr-defined]
    return guard


@pytest.mark.parametrize("method", METHODS_TO_POISON)
@pytest.mark.parametrize(
    "where,value,first",
    [
        ("input", float("nan"), "views[1]"),
        ("features", float("inf"), "features[0]"),
        ("embeddings", float("nan"), "embeddings[0]"),
        ("gradient", float("nan"), "the gradient"),
    ],
)
def test_training_stops_and_says_where(method: str, where: str, value: float, first: str) -> None:
    with pytest.raises(FloatingPointError) as caught:
        fit(method, Poison(where, value))
    report = str(caught.value)
    assert f"step 2 (epoch 0): not finite, first seen in {first}." in report
    assert "views[0] (32, 3, 16, 16): 0 of 24576 values NaN or infinite, the others from" in report
    if where == "input":
        assert "views[1] (32, 3, 16, 16): 1 of 24576 values NaN" in report
        assert "_loss_step': nan" in report
    else:
        assert "gradient: not finite in" in report
    assert "No checkpoint was written yet. numerics.on_nonfinite=skip would skip" in report


class Unlabelled(Callback):
    """Takes the classes away, as a folder of images without labels has none."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        batch[2].fill_(-1)


@pytest.mark.parametrize("method", ["mixbt", "barlow_twins"])
def test_images_without_classes_train_and_are_watched(method: str) -> None:
    assert fit(method, Unlabelled()).global_step == 4
    with pytest.raises(FloatingPointError, match="step 2 .* first seen in"):
        fit(method, Unlabelled(), Poison("embeddings"))


def test_the_last_good_checkpoint_stays() -> None:
    with pytest.raises(FloatingPointError, match=r"The last good checkpoint is .*test-ep0\.ckpt"):
        fit("mixbt", Poison("gradient", steps=(5,)), epochs=2)
    (saved,) = Path().rglob("*.ckpt")
    state = torch.load(saved, weights_only=True)["state_dict"]
    assert all(x.isfinite().all() for x in state.values())


@pytest.mark.parametrize("method", ["mixbt", "barlow_twins"])
@pytest.mark.parametrize("where", ["input", "features", "gradient"])
def test_a_skipped_step_changes_nothing(method: str, where: str) -> None:
    snapshots = Snapshots()
    with pytest.warns(UserWarning, match="The step is skipped, 1 so far"):
        trainer = fit(
            method, snapshots, Poison(where), numerics={"on_nonfinite": "skip"}, knn_eval=KNN
        )
    before, after, last = snapshots.taken[1:4]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert any(not torch.equal(after[key], last[key]) for key in after)
    assert all(x.isfinite().all() for x in last.values())
    assert trainer.callback_metrics["skipped_steps"] == 1
    model: Any = trainer.lightning_module
    assert not model.projector._forward_hooks
    assert len(model.knn.train_features) == 3
    assert all(x.isfinite().all() for x in model.knn.train_features)


def test_with_accumulated_gradients_all_their_batches_are_skipped() -> None:
    snapshots = Snapshots()
    with pytest.warns(UserWarning, match="The step is skipped, 1 so far"):
        fit(
            "mixbt",
            snapshots,
            Poison("input"),
            numerics={"on_nonfinite": "skip"},
            accumulate_grad_batches=2,
        )
    before, after = snapshots.taken[1], snapshots.taken[3]
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.filterwarnings("ignore:.*The step is skipped")
def test_too_many_skipped_in_a_row_stop() -> None:
    with pytest.raises(FloatingPointError, match="numerics.max_skipped=1 steps in a row"):
        fit(
            "mixbt",
            Poison("input", steps=(1, 2)),
            numerics={"on_nonfinite": "skip", "max_skipped": 1},
        )


@pytest.mark.filterwarnings("ignore:.*The step is skipped")
def test_the_count_is_in_the_checkpoint() -> None:
    trainer = fit("mixbt", Poison("input"), numerics={"on_nonfinite": "skip"})
    (saved,) = Path().rglob("*.ckpt")
    states = torch.load(saved, weights_only=True)["callbacks"]
    assert states["NumericalGuard"] == {"skipped": 1}
    again = NumericalGuard(Numerics(), 1)
    again.load_state_dict(states["NumericalGuard"])
    assert again.skipped == guard_of(trainer).skipped == 1


@pytest.fixture
def simulated_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard takes the device for one whose values must not be read at each step."""
    finite = NumericalGuard._finite

    class OnAccelerator(Tensor):
        device = torch.device("cuda")

    def elsewhere(*args: Any) -> Any:
        return [flag.as_subclass(OnAccelerator) for flag in finite(*args)]

    monkeypatch.setattr(NumericalGuard, "_finite", elsewhere)


@pytest.mark.usefixtures("simulated_accelerator")
@pytest.mark.parametrize("log_every_n_steps,max_steps", [(1, -1), (50, -1), (50, 3)])
def test_noted_steps_are_reported_before_a_checkpoint_as_on_a_simulated_accelerator(
    log_every_n_steps: int, max_steps: int
) -> None:
    with pytest.raises(FloatingPointError, match="step 2: the loss or the gradient was not finite"):
        fit(
            "mixbt",
            Poison("gradient"),
            log_every_n_steps=log_every_n_steps,
            max_steps=max_steps,
        )
    assert not list(Path().rglob("*.ckpt"))


def test_a_scaler_that_leaves_out_every_step_stops_the_training() -> None:
    """fp16 on the CPU with a real scaler; CUDA's was not there."""
    scaler = torch.amp.GradScaler("cpu")
    bad = Poison("gradient", steps=range(1, 99))
    with pytest.raises(FloatingPointError) as caught:
        fit("mixbt", bad, scaler=scaler, numerics={"max_skipped": 2})
    report = str(caught.value)
    assert "step 3 (epoch 0): not finite, first seen in the gradient" in report
    assert "No checkpoint was written yet." in report
    assert "left out the last 3 steps (numerics.max_skipped=2), and its scale is 16384" in report


def test_a_scale_that_falls_below_1_stops_the_training() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1000)
    with pytest.raises(FloatingPointError, match=r"step 3 .*(.|\n)*last 1 steps .* scale is 1\."):
        fit("mixbt", Poison("gradient", steps=(1, 3)), scaler=scaler)


def test_a_scaler_may_search_for_its_scale() -> None:
    scaler = torch.amp.GradScaler("cpu")
    snapshots = Snapshots()
    fit("mixbt", snapshots, Poison("gradient", steps=(0, 1)), scaler=scaler)
    assert scaler.get_scale() == 2.0**14
    key = "projector.0.weight"
    weights = [taken[key] for taken in snapshots.taken]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


@pytest.mark.usefixtures("simulated_accelerator")
@pytest.mark.parametrize("scale,found", [(2.0**16, "step 2: .* last 3 steps"), (2.0, "is 0.5")])
def test_both_are_noted_as_on_a_simulated_accelerator(scale: float, found: str) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    with pytest.raises(FloatingPointError, match=found):
        fit(
            "mixbt",
            Poison("gradient", steps=range(99)),
            scaler=scaler,
            numerics={"max_skipped": 2},
        )


@pytest.mark.filterwarnings("ignore:.*The step is skipped")
def test_a_loss_that_is_not_finite_is_skipped_beside_a_scaler() -> None:
    scaler = torch.amp.GradScaler("cpu")
    trainer = fit("mixbt", Poison("input"), scaler=scaler, numerics={"on_nonfinite": "skip"})
    assert trainer.callback_metrics["skipped_steps"] == 1
    assert scaler.get_scale() == 2.0**15


class LastUpdate(Callback):
    """Makes a weight or a buffer bad behind the last update of an epoch."""

    def __init__(self, name: str, epoch: int) -> None:
        self.name, self.epoch = name, epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            pl_module.state_dict()[self.name].view(-1)[-1] = float("inf")


@pytest.mark.parametrize("name", ["projector.0.weight", "backbone.stem.1.running_var"])
def test_weights_that_are_not_finite_are_not_saved(name: str) -> None:
    message = rf"test-ep1.ckpt is not written: {name} holds NaN .* step 7 .* is .*test-ep0.ckpt"
    with pytest.raises(FloatingPointError, match=message):
        fit("mixbt", LastUpdate(name, epoch=1), epochs=3)
    (saved,) = Path().rglob("*.ckpt*")
    state = torch.load(saved, weights_only=True)["state_dict"]
    assert all(x.isfinite().all() for x in state.values())
    with pytest.raises(FloatingPointError, match="ep0.ckpt is not written.*there is none before"):
        fit("mixbt", LastUpdate(name, epoch=0))


class Collapse(Callback):
    def __init__(self, share: float, layer: str) -> None:
        self.share, self.layer = share, layer

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        module = getattr(pl_module, self.layer)
        module.register_forward_hook(self.flatten, prepend=True)

    def flatten(self, module: Any, inputs: Any, output: Tensor) -> Tensor:
        dead = torch.arange(output.size(1)) < self.share * output.size(1)
        return torch.where(dead, 0.7, output)


@pytest.mark.parametrize(
    "share,layer,message",
    [
        (1.0, "projector", "all images have the same embeddings; 48 of 48 dimensions"),
        (0.25, "projector", "dead dimensions in the embeddings; 12 of 48"),
        (0.6, "backbone", "dead dimensions in the features; 39 of 64"),
    ],
)
def test_collapse_is_warned_of_once_an_epoch(share: float, layer: str, message: str) -> None:
    with pytest.warns(UserWarning, match="collapse") as caught:
        fit("mixbt", Collapse(share, layer), epochs=2)
    said = [str(w.message) for w in caught if "collapse" in str(w.message)]
    assert [message in one for one in said].count(True) == 2


@pytest.mark.parametrize("silenced", [False, True])
def test_no_warning_without_collapse_or_where_silenced(silenced: bool) -> None:
    callbacks = [Collapse(1.0, "projector")] if silenced else []
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*collapse")
        fit("mixbt", *callbacks, numerics={"warn_of_collapse": not silenced})


@pytest.mark.parametrize("method", ["multiaug_vicreg", "mixbt"])
def test_one_dead_dimension_is_named_at_once_where_eps_is_0(method: str) -> None:
    dead = Collapse(1 / 48, "projector")
    message = r"step 0 .* 1 of 48 dimensions .* are dead, .*: 0\. With method_kwargs.eps=0"
    with pytest.warns(UserWarning, match=message):
        fit(method, dead, method_kwargs={"eps": 0.0})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*dead")
        fit(method, dead)
