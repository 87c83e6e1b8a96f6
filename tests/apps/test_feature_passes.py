"""``feature_passes``: a classifier on features that are averaged over views and computed once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from mixbt_plugin.apps import linear as linear_command
from mixbt_plugin.apps import training
from mixbt_plugin.apps.features import averaged_features
from mixbt_plugin.apps.linear import _check_passes, linear
from mixbt_plugin.apps.results import Results
from mixbt_plugin.apps.schema import check_linear
from mixbt_plugin.apps.seeding import SeededDataset
from mixbt_plugin.backbones.narrow_resnet import NarrowResNet10
from mixbt_plugin.data import (
    complete_images,
    evaluation_datasets,
    evaluation_transforms,
    passes_transform,
)
from mixbt_plugin.host import parse_linear_cfg
from mixbt_plugin.methods import LinearEvaluation
from tests import made_images
from tests.apps.composing import composed
from tests.apps.untrained import checkpoint_of
from tests.made_images import without_checksums

CONFIG = "linear/fastssl/mnist5k.yaml"
SMALL = (
    *("max_epochs=2", "feature_passes=3", "limit_train_batches=2", "limit_val_batches=2"),
    *("optimizer.batch_size=64", "data.num_workers=0", "checkpoint.dir=models"),
    *("data.fraction=0.05", "enable_progress_bar=false"),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = {"name": "narrow_resnet10", "kwargs": {"width": 8}}
    folder = tmp_path_factory.mktemp("pretrained")
    return checkpoint_of(folder, backbone, "mnist5k", augmentations=[{"crop_size": 16}])


def configured(*overrides: str) -> DictConfig:
    """A parsed config, at the size of the digits: there is no pre-training to take one from."""
    size = ("data.augmentations.crop_size=16", "view.crop_size=16")
    cfg = composed(CONFIG, "feature_passes=4", *size, *overrides)
    cfg.pretrained_feature_extractor, cfg.backbone.name = "a.ckpt", "narrow_resnet10"
    training.prepare(cfg, check_linear)
    complete_images(cfg, None)
    return parse_linear_cfg(cfg)


def digits(*overrides: str) -> tuple[DictConfig, Any]:
    """A parsed config and the first of its test images."""
    cfg = configured(*overrides)
    views = passes_transform(cfg)
    _, images = evaluation_datasets(cfg, views, views)
    return cfg, torch.utils.data.Subset(images, range(20))


def features(cfg: DictConfig, images: Any, model: Any) -> tuple[Tensor, ...]:
    trainer = training.build_trainer(cfg, Results(cfg, "offline", {}))
    return averaged_features(model, images, cfg, trainer).tensors


def network(cfg: DictConfig) -> Any:
    torch.manual_seed(0)
    return LinearEvaluation(NarrowResNet10(width=8), cfg)


def test_features_are_the_mean_over_one_whole_image_and_augmented_ones() -> None:
    cfg, images = digits()
    model = network(cfg)
    found, targets = features(cfg, images, model)
    seeded, expected = SeededDataset(images, cfg.seed), []
    model.eval()
    for index in range(len(images)):
        views, target = seeded[0, index]
        assert len(views) == 4
        assert target == targets[index]
        expected.append(torch.stack([model.backbone(view[None])[0] for view in views]).mean(dim=0))
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert not found.requires_grad


def test_the_first_view_is_the_whole_image_and_the_others_are_drawn() -> None:
    cfg, images = digits()
    _, whole = evaluation_transforms("mnist5k", 16)
    _, stills = evaluation_datasets(cfg, whole, whole)
    first, *others = views = images[3][0]
    assert torch.equal(first, stills[3][0])
    assert not any(view.equal(other) for view in others for other in views if view is not other)


def test_features_do_not_depend_on_workers_or_what_was_drawn_before() -> None:
    cfg, images = digits()
    model = network(cfg)
    alone, _ = features(cfg, images, model)
    torch.rand(3)
    cfg.data.num_workers = 2
    assert torch.equal(features(cfg, images, model)[0], alone)
    cfg.seed += 1
    assert not torch.equal(features(cfg, images, model)[0], alone)


def test_views_keep_their_own_size_and_statistics() -> None:
    """As fastssl's of STL-10, where the whole image has others."""
    cfg = configured(
        *("data.augmentations.crop_size=24", "data.augmentations.mean=[1.0,1.0,1.0]"),
        *("+view.mean=[0.0,0.0,0.0]", "+view.std=[1.0,1.0,1.0]"),
    )
    whole, *views = passes_transform(cfg)(evaluated_image())
    assert whole.shape == (3, 24, 24)
    assert whole.max() <= 0
    assert all(view.shape == (3, 16, 16) and view.min() >= 0 for view in views)


def evaluated_image() -> Any:
    cfg = configured()
    return evaluation_datasets(cfg, lambda image: image, lambda image: image)[1][0][0]


def test_without_pipelines_the_views_are_random_crops() -> None:
    cfg = configured("augmentations=null")
    views = passes_transform(cfg)(evaluated_image())
    assert len(views) == 4
    assert not views[1].equal(views[2])


def test_the_classifier_takes_images_or_their_features() -> None:
    model = network(configured()).eval()
    of_images = model(torch.rand(5, 3, 16, 16))
    of_features = model(of_images["feats"])
    assert torch.equal(of_features["logits"], of_images["logits"])
    assert torch.equal(of_features["feats"], of_images["feats"])


def evaluate(checkpoint: Path, *overrides: str) -> Path:
    cfg = composed(CONFIG, *SMALL, *overrides)
    cfg.pretrained_feature_extractor = str(checkpoint)
    return linear(cfg)


def rows(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def test_a_run_is_labelled_and_leaves_the_backbone_as_it_was(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluate(checkpoint)
    assert {row["evaluation"] for row in rows(folder)} == {"linear, mean of 3 passes"}
    assert "linear, mean of 3 passes, offline, last epoch (2 of 2)" in capsys.readouterr().out
    after = torch.load(next(folder.glob("*.ckpt")), weights_only=True)["state_dict"]
    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    backbone = [name for name in before if name.startswith("backbone.")]
    assert backbone
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    assert json.loads((folder / "args.json").read_text())["feature_passes"] == 3


@pytest.mark.slow
def test_labels_are_smoothed_in_training(checkpoint: Path) -> None:
    def loss(smoothing: float) -> float:
        folder = evaluate(checkpoint, f"label_smoothing={smoothing}", "optimizer.lr=0")
        logged = csv.DictReader((folder / "metrics.csv").open())
        return next(float(row["train_loss_epoch"]) for row in logged if row["train_loss_epoch"])

    assert loss(0.0) != loss(0.5)


@pytest.mark.slow
def test_a_run_resumes_where_it_stopped(checkpoint: Path) -> None:
    whole = evaluate(checkpoint, "checkpoint.keep_prev=true")
    earlier = next(whole.glob("*-ep0.ckpt"))
    resumed = evaluate(checkpoint, f"resume_from_checkpoint={earlier}", "checkpoint.dir=resumed")
    states = [
        torch.load(next(folder.glob("*-ep1.ckpt")), weights_only=True)["state_dict"]
        for folder in (whole, resumed)
    ]
    assert rows(resumed) == rows(whole)
    assert torch.equal(states[0]["classifier.weight"], states[1]["classifier.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["cifar10", "stl10"])
def test_fastssls_protocol_on_made_images(
    dataset: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the files of the real ones; of STL-10 the whole image has 96 pixels, the views have 64."""
    without_checksums(monkeypatch)
    paths = made_images.make(dataset, tmp_path / "images")
    cfg = composed(f"linear/fastssl/{dataset}.yaml", "max_epochs=1", "optimizer.batch_size=8")
    cfg.data = {**cfg.data, **paths, "num_workers": 0}
    cfg.precision = "bf16-mixed"
    cfg.pretrained_feature_extractor = str(checkpoint)
    assert {row["evaluation"] for row in rows(linear(cfg))} == {"linear, mean of 16 passes"}


@pytest.mark.parametrize(
    "override,message",
    [
        ("feature_passes=0", "feature_passes=0: expected a whole number of at least 1"),
        ("finetune=true", "feature_passes=3 with finetune=True"),
        ("backbone_batch_norm=train", "feature_passes=3 with backbone_batch_norm='train'"),
        ("augmentations=[]", r"feature_passes=3 with augmentations=\[\]: expected a pipeline"),
        ("mixup=0.5", "feature_passes=3 with mixup=0.5: expected 0"),
        ("cutmix=0.5", "feature_passes=3 with cutmix=0.5: expected 0"),
        ("devices=2", r"feature_passes=3 with devices=\[0, 1\], num_nodes=1: expected one device"),
    ],
)
def test_refusals_come_before_training(checkpoint: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(checkpoint, override)
    assert not Path("models").exists()


def test_too_few_images_are_refused_before_any_feature_is_computed(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_command, "averaged_features", None)
    with pytest.raises(ValueError, match="optimizer.batch_size=512: the training set has only 200"):
        evaluate(checkpoint, "data.fraction=0.05", "optimizer.batch_size=512")


def test_dali_is_refused() -> None:
    cfg = configured("augmentations=null")
    cfg.data.format = "dali"
    with pytest.raises(ValueError, match="feature_passes=4 with data.format='dali': expected im"):
        _check_passes(cfg)
