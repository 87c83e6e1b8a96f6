"""``pooled_batch_norm``: all views pass through the network in one forward."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from mixbt_plugin.host import METHODS
from mixbt_plugin.losses import multiview_barlow_twins_loss, multiview_vicreg_loss
from mixbt_plugin.registry import register
from tests.configs import batch, loader, method_config
from tests.recipes.shipped import CONFIGS, composed, parsed
from tests.train_losses import train

register()
SIZES = (16, 16, 16, 16)
LOSSES: dict[str, Any] = {
    "multiaug_barlow_twins": multiview_barlow_twins_loss,
    "multiaug_vicreg": multiview_vicreg_loss,
}
methods = pytest.mark.parametrize("method", LOSSES)


def build(method: str, pooled: bool = True, large: int = 4, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    cfg = method_config(
        method, {"pooled_batch_norm": pooled}, large=large, small=4 - large, **kwargs
    )
    return METHODS[method](cfg).double()


def checked(cfg: Any) -> Any:
    method: Any = METHODS[cfg.method]
    return method.add_and_assert_specific_cfg(cfg)


def given() -> list[Any]:
    indexes, views, targets = batch(SIZES)
    return [indexes, [view.double() for view in views], targets]


def step(model: Any) -> tuple[Tensor, dict[str, Any]]:
    """Loss and what is logged, of one step outside of a trainer."""
    logged: dict[str, Any] = {}
    model.log_dict = lambda values, **how: logged.update(values)
    return model.training_step(given(), 0), logged


def statistics(model: Any) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in model.state_dict().items()
        if name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }


@methods
def test_loss_gradient_and_running_statistics_are_those_of_the_concatenated_views(
    method: str,
) -> None:
    model = build(method)
    network = copy.deepcopy(model)
    _, views, targets = given()
    feats = network.backbone(torch.cat(views))
    terms = network.loss_of(LOSSES[method], list(network.projector(feats).chunk(4)))
    classified = torch.nn.functional.cross_entropy(
        network.classifier(feats.detach()), targets.repeat(4)
    )
    (terms.loss + classified).backward()

    loss, logged = step(model)
    loss.backward()
    torch.testing.assert_close(loss, terms.loss + classified)
    torch.testing.assert_close(logged["train_class_loss"], classified)
    expected = dict(network.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, msg=name)
    found = statistics(model)
    assert found
    for name, value in statistics(network).items():
        torch.testing.assert_close(found[name], value, msg=name)


@methods
def test_it_is_another_loss_than_with_the_statistics_of_each_view(method: str) -> None:
    pooled, plain = build(method), build(method, pooled=False)
    assert not torch.isclose(step(pooled)[0], step(plain)[0], rtol=1e-3)
    tracked = [model.projector[1].num_batches_tracked.item() for model in (pooled, plain)]
    assert tracked == [1, 4]


@methods
def test_classifier_and_knn_see_the_large_views_alone(method: str) -> None:
    """As without pooling; solo-learn counts further views of the same size as small ones."""
    knn = {"enabled": True}
    pooled = build(method, large=2, knn_eval=knn)
    plain = build(method, pooled=False, large=2, knn_eval=knn)
    _, views, targets = given()
    feats = copy.deepcopy(pooled).backbone(torch.cat(views)).chunk(4)
    classified = torch.nn.functional.cross_entropy(
        pooled.classifier(torch.cat(feats[:2])), targets.repeat(2)
    )
    logged = step(pooled)[1]
    torch.testing.assert_close(logged["train_class_loss"], classified)
    assert logged.keys() == step(plain)[1].keys()
    remembered = [torch.cat(list(model.knn.train_features)) for model in (pooled, plain)]
    torch.testing.assert_close(remembered[0], torch.cat(feats[:2]).to(remembered[0]))
    assert remembered[0].shape == remembered[1].shape


@methods
def test_validation_is_as_ever(method: str) -> None:
    pooled, plain = build(method).eval(), build(method, pooled=False).eval()
    images = given()[1][0]
    found, expected = pooled(images), plain(images)
    assert all(torch.equal(found[key], expected[key]) for key in ("feats", "logits", "z"))


@methods
def test_trains_under_a_trainer(method: str) -> None:
    losses = train(METHODS[method](method_config(method, {"pooled_batch_norm": True})), epochs=2)
    assert len(losses) == 2 * len(loader())
    assert losses[-1] < losses[0]


def test_views_of_several_sizes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "class0").mkdir()
    swav = "parity/fastssl/stl10/multiaug_barlow_twins_8views_swav"
    cfg = parsed(swav, tmp_path)
    assert not checked(cfg).method_kwargs.pooled_batch_norm
    cfg.method_kwargs.pooled_batch_norm = True
    with pytest.raises(
        ValueError, match="pooled_batch_norm=True with views of 32 x 32, 64 x 64 pixels: expected"
    ):
        checked(cfg)


def test_a_list_of_one_size_is_that_size() -> None:
    cfg = method_config("multiaug_vicreg", {"pooled_batch_norm": True}, large=2, small=2)
    cfg.augmentations = OmegaConf.create([{"crop_size": 16}, {"crop_size": [16, 16]}])
    checked(cfg)


@pytest.mark.parametrize("config", [c for c in CONFIGS if "parity/fastssl" in c])
def test_fastssls_recipes_pool(config: str) -> None:
    assert composed(config).method_kwargs.pooled_batch_norm == ("swav" not in config)
