"""Every method trains on the host, logs its terms, and behaves as solo-learn's own do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from omegaconf import OmegaConf

from mixbt_plugin.host import METHODS
from mixbt_plugin.registry import list_methods, register
from mixbt_plugin.settings import RunError
from tests.configs import GENTLE, PROJECTOR, batch, loader, method_config
from tests.train_losses import train, train_elsewhere, train_from
from tests.trainers import quiet_trainer

register()

LOGGED = {
    "mixbt": {"mixbt_loss", "barlow_loss", "reg_loss", "on_diag", "off_diag", "lamb_reg"},
    "multiaug_mixbt": {
        *("multiaug_mixbt_loss", "barlow_loss", "reg_loss", "on_diag", "off_diag", "lamb_reg")
    },
    "hsic_ssl": {"hsic_ssl_loss", "on_diag", "off_diag"},
    "multiaug_barlow_twins": {"multiaug_barlow_loss", "on_diag", "off_diag"},
    "multiaug_vicreg": {"multiaug_vicreg_loss", "sim_loss", "var_loss", "cov_loss"},
    "barlow_twins": {"barlow_loss"},
    "vicreg": {"vicreg_loss"},
}
ONLINE = {"class_loss", "acc1", "acc5"}


def build(method: str, method_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    seed_everything(0)
    return METHODS[method](method_config(method, method_kwargs, **kwargs))


def step_loss(model: Any, given: list[Any], batch_idx: int = 0) -> torch.Tensor:
    """One training step outside of a trainer, without logging."""
    model.log_dict = lambda *args, **kwargs: None
    loss: torch.Tensor = model.training_step(given, batch_idx)
    return loss


def gradients(model: Any, given: list[Any]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    step_loss(model, given).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("method", LOGGED)
def test_trains_and_logs_its_terms(method: str) -> None:
    if method in ("barlow_twins", "vicreg"):
        model = build(method)
    else:
        model = build(method, {"impl": "gram"})
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = quiet_trainer()
    val: Any = [(views[0], targets) for _, views, targets in loader()]
    trainer.fit(model, loader(), torch.utils.data.DataLoader(val, batch_size=None))
    logged = set(trainer.callback_metrics)
    assert {f"train_{name}" for name in LOGGED[method] | ONLINE} <= logged
    assert {"val_loss", "val_acc1", "val_acc5"} <= logged
    assert all(torch.isfinite(value) for value in trainer.callback_metrics.values())
    moved = [name for name, value in model.named_parameters() if not value.equal(before[name])]
    assert {name.split(".")[0] for name in moved} == {"backbone", "classifier", "projector"}


@pytest.mark.filterwarnings("ignore:Total length of .DataLoader")
def test_a_training_set_that_fills_no_batch_is_not_passed_over() -> None:
    four: Any = torch.zeros(4, 3, 32, 32)
    few = torch.utils.data.DataLoader(four, batch_size=8, drop_last=True)
    with pytest.raises(RunError, match=r"optimizer.batch_size=\d+: nothing was trained"):
        quiet_trainer().fit(build("mixbt"), few)


@pytest.mark.parametrize("method", LOGGED)
def test_groups_and_parameter_names_are_solo_learns(method: str) -> None:
    model = build(method)
    assert [group["name"] for group in model.learnable_params] == [
        "backbone",
        "classifier",
        "projector",
    ]
    reference = build("barlow_twins")
    assert list(model.state_dict()) == list(reference.state_dict())


def agree(losses: list[float], expected: list[float], precision: str, tolerance: float) -> None:
    """Steps amplify float32's rounding, which differs between two ways to sum."""
    assert losses[:5] == pytest.approx(expected[:5], rel=tolerance)
    assert losses == pytest.approx(expected, rel=tolerance if precision == "64-true" else 3e-4)


PRECISIONS = pytest.mark.parametrize(
    "precision,tolerance,overrides",
    [("64-true", 1e-10, {}), ("32-true", 1e-5, {"optimizer": GENTLE})],
    ids=["float64-lars", "float32-sgd"],
)


@PRECISIONS
def test_mixbt_without_regularizer_is_the_hosts_barlow_twins(
    precision: str, tolerance: float, overrides: dict[str, Any]
) -> None:
    """20 steps: the same seed, weights, data and order."""
    kwargs = {"lamb": 0.01, "scale_loss": 0.1}
    host = build("barlow_twins", kwargs, **overrides)
    weights = {name: value.clone() for name, value in host.state_dict().items()}
    expected = train(host, precision)
    ours = build("mixbt", {**kwargs, "lamb_reg": 0.0}, **overrides)
    ours.load_state_dict(weights)
    losses = train(ours, precision)
    assert len(losses) == 20
    agree(losses, expected, precision, tolerance)
    assert expected[-1] < expected[0]


@PRECISIONS
def test_two_views_are_the_hosts_vicreg(
    precision: str, tolerance: float, overrides: dict[str, Any]
) -> None:
    host = build("vicreg", **overrides)
    weights = {name: value.clone() for name, value in host.state_dict().items()}
    expected = train(host, precision)
    ours = build("multiaug_vicreg", **overrides)
    ours.load_state_dict(weights)
    agree(train(ours, precision), expected, precision, tolerance)


@pytest.mark.solo_learn
@PRECISIONS
@pytest.mark.parametrize(
    "method,kwargs",
    [("mixbt", {"lamb_reg": 4.0}), ("hsic_ssl", {}), ("barlow_twins", {}), ("vicreg", {})],
)
def test_twenty_steps_agree_between_the_hosts(
    method: str,
    kwargs: dict[str, Any],
    precision: str,
    tolerance: float,
    overrides: dict[str, Any],
    tmp_path: Path,
) -> None:
    """The same seed, initial weights and batches on solo-learn and on the stand-in."""
    weights = build(method, kwargs, **overrides).state_dict()
    cfg: Any = OmegaConf.to_container(method_config(method, kwargs, **overrides))
    real = train_from(cfg, weights, precision)
    embedded = train_elsewhere(cfg, weights, precision, tmp_path, "embedded")
    assert len(real) == 20
    agree(embedded, real, precision, tolerance)


def test_the_mixed_forward_reaches_neither_classifier_nor_knn() -> None:
    given = batch()
    plain = build("mixbt", {"lamb_reg": 0.0}, knn_eval={"enabled": True})
    mixed = build("mixbt", {"lamb_reg": 4.0}, knn_eval={"enabled": True})
    mixed.load_state_dict(plain.state_dict())
    plain_gradients, mixed_gradients = gradients(plain, given), gradients(mixed, given)
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(plain_gradients[name], mixed_gradients[name])
    assert not torch.equal(
        plain_gradients["projector.0.weight"], mixed_gradients["projector.0.weight"]
    )
    assert sum(len(features) for features in mixed.knn.train_features) == 2 * len(given[1][0])


def test_the_mixed_forward_moves_batch_norm_statistics_as_in_the_official_code() -> None:
    model = build("mixbt")
    step_loss(model, batch())
    tracked = [m for m in model.projector if isinstance(m, torch.nn.BatchNorm1d)]
    assert all(m.num_batches_tracked == 3 for m in tracked)


def test_mixing_is_drawn_anew_for_each_seed_epoch_and_batch() -> None:
    given = batch()
    losses = []
    for seed, batch_idx in ((3, 0), (3, 0), (3, 1), (4, 0)):
        model = build("mixbt", {"lamb_reg": 100.0}, seed=seed)
        losses.append(step_loss(model, given, batch_idx).item())
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_mixing_leaves_the_global_random_state_alone() -> None:
    model, given = build("mixbt", {"mix_per_sample": True, "mix_alpha": 0.5}), batch()
    state = torch.get_rng_state()
    step_loss(model, given)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("option", [{"mix_per_sample": True}, {"mix_alpha": 0.1}])
def test_mixing_options_change_the_loss(option: dict[str, Any]) -> None:
    given = batch()
    plain = step_loss(build("mixbt", {"lamb_reg": 100.0}), given)
    assert step_loss(build("mixbt", {"lamb_reg": 100.0, **option}), given) != plain


@pytest.mark.parametrize(
    "option",
    [
        {"target": "imagenet-code"},
        {"unbiased": True},
        {"eps": 0.1},
        {"normalize_output": True},
        {"lamb": 0.1},
        {"scale_loss": 1.0},
    ],
)
def test_loss_options_change_the_loss(option: dict[str, Any]) -> None:
    given = batch()
    assert step_loss(build("mixbt", option), given) != step_loss(build("mixbt"), given)


def test_the_regularizer_warms_up() -> None:
    model = build("mixbt", {"lamb_reg": 2.0, "lamb_reg_warmup_epochs": 2.0})
    weights = []
    model.on_train_batch_start = lambda _, batch_idx: weights.append(
        model.current_lamb_reg(batch_idx)
    )
    quiet_trainer(max_epochs=3).fit(model, loader())
    assert weights == pytest.approx([0.25 * step for step in range(8)] + [2.0] * 4)


def test_hsic_weight_defaults_to_one_over_the_dimension() -> None:
    given = batch()
    default = step_loss(build("hsic_ssl"), given)
    stated = step_loss(build("hsic_ssl", {"lamb": 1 / PROJECTOR["proj_output_dim"]}), given)
    assert default == stated


@pytest.mark.parametrize("method", ["multiaug_barlow_twins", "multiaug_vicreg"])
@pytest.mark.parametrize("pairing", ["all", "mean"])
@pytest.mark.parametrize(
    "sizes,large", [((16, 16), 2), ((16, 16, 16), 3), ((16, 16, 12, 12), 2), ((16, 12, 20), 1)]
)
def test_any_number_size_and_split_of_views(
    method: str, pairing: str, sizes: tuple[int, ...], large: int
) -> None:
    model = build(method, {"pairing": pairing}, large=large, small=len(sizes) - large)
    every_view = {name: g for name, g in gradients(model, batch(sizes)).items()}
    assert all(gradient.isfinite().all() for gradient in every_view.values())
    for view in range(len(sizes)):
        changed = batch(sizes)
        changed[1][view] = changed[1][view].flip(0)
        assert step_loss(model, changed) != step_loss(model, batch(sizes)), view


def test_large_and_small_crops_count_alike() -> None:
    given = batch((16, 16, 16, 16))
    losses = []
    for large in (4, 2):
        model = build("multiaug_barlow_twins", large=large, small=4 - large)
        classifier = model.training_step
        model.classifier.requires_grad_(False)
        model.log_dict = lambda *args, **kwargs: None
        captured: dict[str, Any] = {}
        model.log_terms = captured.update
        classifier(given, 0)
        losses.append(captured["multiaug_barlow_loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("method", [info.name for info in list_methods()])
def test_checkpoint_round_trip(method: str, tmp_path: Path) -> None:
    model = build(method)
    trainer = quiet_trainer()
    trainer.fit(model, loader())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    method_class: Any = METHODS[method]
    loaded = method_class.load_from_checkpoint(tmp_path / "model.ckpt", cfg=method_config(method))
    images = batch()[1][0]
    model.eval()
    loaded.eval()
    with torch.no_grad():
        assert torch.equal(model(images)["z"], loaded(images)["z"])


@pytest.mark.parametrize("method", [info.name for info in list_methods()])
def test_bf16_training(method: str) -> None:
    quiet_trainer(precision="bf16-mixed").fit(build(method), loader())
