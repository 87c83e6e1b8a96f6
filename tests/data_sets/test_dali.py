"""solo-learn's DALI loaders on the CPU, without a CUDA driver; and what is refused before them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps.linear import linear
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.apps.training import prepare
from mixbt_plugin.data import (
    UnreadableImageError,
    check_dali,
    dali_evaluation,
    dali_pretraining,
    evaluation_datasets,
    evaluation_transforms,
    pretrain_dataset,
    pretrain_transform,
)
from mixbt_plugin.host import dali_loaders, parse_pretrain_cfg
from tests.apps.composing import composed
from tests.images import CLASSES, image_folder

dali = [pytest.mark.solo_learn, pytest.mark.dali]


def marked(function: Any) -> Any:
    for mark in dali:
        function = mark(function)
    return function


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "images")


def config(images: Path, *overrides: str, method: str = "multiaug_barlow_twins") -> DictConfig:
    """Two large and two small views of 32 pixels, the small ones' size a list."""
    of_pipelines = [text for text in overrides if text.startswith("augmentations.")]
    shipped = composed(
        f"pretrain/cifar/{method}.yaml",
        *("data.dataset=custom", f"data.train_path={images / 'train'}"),
        *(f"data.val_path={images / 'val'}", "data.num_workers=1", "optimizer.batch_size=16"),
        *("backbone.name=narrow_resnet10", "+backbone.kwargs.width=8", "max_epochs=1"),
        *("precision=32", "accelerator=cpu", "checkpoint.dir=models"),
        *("data.format=dali", "dali.device=cpu"),
        *(text for text in overrides if text not in of_pipelines),
    )
    cfg: Any = OmegaConf.create(OmegaConf.to_container(shipped, resolve=True))
    for text in of_pipelines:
        key, _, value = text.partition("=")
        OmegaConf.update(cfg, key, yaml.safe_load(value), force_add=True)
    return cfg


def parsed(images: Path, *overrides: str, **kwargs: Any) -> DictConfig:
    cfg = config(images, *overrides, **kwargs)
    prepare(cfg, check_pretraining)
    return parse_pretrain_cfg(cfg)


def set_up(module: Any, rank: int = 0, world_size: int = 1) -> Any:
    module.trainer = SimpleNamespace(local_rank=rank, global_rank=rank, world_size=world_size)
    module.setup()
    return module.train_loader


@marked
@pytest.mark.parametrize("dataset", ["imagenet", "imagenet100", "custom"])
@pytest.mark.parametrize("views", [2, 4, 8])
@pytest.mark.filterwarnings("ignore:.*of imagenet")
def test_pretraining(images: Path, dataset: str, views: int) -> None:
    per_pipeline = [f"augmentations.{n}.num_crops={views // 2}" for n in range(2)]
    folder = pretrain(config(images, f"data.dataset={dataset}", *per_pipeline))
    (checkpoint,) = folder.glob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 3
    metrics = (folder / "metrics.csv").read_text()
    assert "train_multiaug_barlow_loss" in metrics.splitlines()[0]
    assert "val_acc1" in metrics.splitlines()[0]


@marked
@pytest.mark.parametrize("method", ["mixbt", "hsic_ssl", "barlow_twins", "multiaug_vicreg"])
def test_the_other_methods(images: Path, method: str) -> None:
    cfg = config(images, "augmentations.0.equalization.prob=0", method=method)
    folder = pretrain(cfg)
    assert list(folder.glob("*.ckpt"))


STILL = [
    f"augmentations.{n}.{key}"
    for n in range(2)
    for key in (
        *("rrc.enabled=False", "color_jitter.prob=0", "grayscale.prob=0"),
        *("gaussian_blur.prob=0", "solarization.prob=0", "horizontal_flip.prob=0"),
    )
]


@marked
@pytest.mark.parametrize("fraction", [-1, 0.5])
@pytest.mark.parametrize("given", [[], ["augmentations.0.mean=[0.1,0.2,0.3]"]])
def test_images_classes_and_fraction_are_those_of_the_folder(
    images: Path, fraction: float, given: list[str]
) -> None:
    """Of pipelines that change nothing but the statistics."""
    cfg = parsed(
        images,
        *(*STILL, *given, f"data.fraction={fraction}", "dali.encode_indexes_into_labels=true"),
        "optimizer.batch_size=8",
    )
    expected: Any = pretrain_dataset(cfg, pretrain_transform(cfg))
    seen = 0
    for indexes, views, targets in set_up(dali_pretraining(cfg, world_size=1)):
        for place, index in enumerate(indexes.tolist()):
            _, ours, target = expected[index]
            assert target == targets[place]
            for one, other in zip(views, ours, strict=True):
                torch.testing.assert_close(one[place], other, atol=1e-5, rtol=1e-5)
            seen += 1
    assert seen == len(expected) == 48 * (abs(fraction))


@marked
def test_without_labels_and_a_batch_keeps_its_images(images: Path) -> None:
    folder = images / "train" / "class0"
    cfg = parsed(
        images,
        *(f"data.train_path={folder}", "data.val_path=null", "data.no_labels=true"),
        "optimizer.batch_size=2",
    )
    loader = iter(set_up(dali_pretraining(cfg, world_size=1)))
    kept = []
    for _, views, targets in loader:
        kept.append((views, [view.clone() for view in views]))
        assert targets.tolist() == [-1, -1]
    assert len(kept) == 4
    for views, copies in kept:
        assert all(torch.equal(view, copy) for view, copy in zip(views, copies))


@marked
def test_two_processes_share_the_images(images: Path) -> None:
    cfg = parsed(images, "dali.encode_indexes_into_labels=true", "optimizer.batch_size=8")
    seen = [
        {int(n) for indexes, *_ in set_up(dali_pretraining(cfg, 2), rank, 2) for n in indexes}
        for rank in range(2)
    ]
    assert [len(part) for part in seen] == [24, 24]
    assert seen[0].isdisjoint(seen[1])


@marked
def test_solo_learns_builders_are_left_as_they_were(images: Path) -> None:
    loaders = dali_loaders()
    builders = loaders.PretrainPipelineBuilder, loaders.NormalPipelineBuilder
    before = [builder.pipeline for builder in builders]
    set_up(dali_pretraining(parsed(images), world_size=1))
    assert [builder.pipeline for builder in builders] == before


@marked
@pytest.mark.parametrize("size", [24, 224])
def test_linear_evaluation(images: Path, size: int) -> None:
    (checkpoint,) = pretrain(config(images)).glob("*.ckpt")
    cfg = composed(
        "linear/custom.yaml",
        f"pretrained_feature_extractor='{checkpoint}'",
        *(f"data.train_path={images / 'train'}", f"data.val_path={images / 'val'}"),
        *("data.format=dali", "dali.device=cpu", "data.num_workers=1", "max_epochs=1"),
        *("optimizer.batch_size=16", "precision=32", "accelerator=cpu"),
        *(f"++data.augmentations.crop_size={size}", "checkpoint.dir=models"),
    )
    folder = linear(cfg)
    assert "val_acc1" in (folder / "metrics.csv").read_text()


@marked
def test_a_list_of_files_is_refused_in_fine_tuning(images: Path) -> None:
    words = (
        *(f"data.train_path={images / 'train'}", f"data.val_path={images / 'val'}"),
        *("data.format=dali", "dali.device=cpu", "data.train_subset=1percent.txt"),
        *("pretrained_feature_extractor=weights.pth", "backbone.name=resnet18"),
    )
    Path("weights.pth").touch()
    with pytest.raises(ValueError, match=r"^data.train_subset='1percent.txt' with data.format='da"):
        linear(composed("finetuning/imagenet_1percent.yaml", *words))


@marked
def test_images_of_linear_evaluation(images: Path) -> None:
    """Mean and spread of the crops; the crops themselves are random."""
    cfg = parsed(images, "optimizer.batch_size=48")
    mean, std = [0.3, 0.4, 0.5], [0.1, 0.2, 0.4]
    cfg.data.augmentations = {"crop_size": [20, 20], "mean": mean, "std": std}
    crops, _ = evaluation_transforms("custom", 20, mean, std)
    ours: Any = evaluation_datasets(cfg, crops, crops)[0]
    expected = torch.stack([image for image, _ in ours])
    ((found, targets),) = set_up(dali_evaluation(cfg, world_size=1))
    assert found.shape == expected.shape == (48, 3, 20, 20)
    assert torch.bincount(targets).tolist() == [8] * CLASSES
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(
            statistic(found, dim=(0, 2, 3)), statistic(expected, dim=(0, 2, 3)), atol=0.3, rtol=0.1
        )


@marked
def test_resumed_it_says_that_it_is_not_exact(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrain(config(images, "max_epochs=2", "checkpoint.keep_prev=true"))
    earlier = next(folder.glob("*-ep0.ckpt"))
    pretrain(config(images, "max_epochs=2", f"resume_from_checkpoint='{earlier}'"))
    assert "DALI begins anew" in capsys.readouterr().out


@marked
@pytest.mark.parametrize(
    "overrides,message",
    [
        (["dali.device=gpu"], "dali.device='gpu', which is solo-learn's default: there is no CUDA"),
        (["~dali"], "dali.device='gpu', which is solo-learn's default: there is no CUDA"),
        (["dali.device=tpu"], "dali.device='tpu': expected one of gpu, cpu"),
        (["augmentations.1.crop_size=[32,24]"], r"augmentations\[1\].crop_size=\[32, 24\] with"),
        (["augmentations.0.equalization.prob=0.1"], r"augmentations\[0\].equalization.prob=0.1 wi"),
        (["data.unreadable=skip"], "data.unreadable='skip' with data.format='dali'"),
        (["data.train_subset=1.txt"], "data.train_subset='1.txt' with data.format='dali': DALI r"),
        (["optimizer.batch_size=64"], "optimizer.batch_size=64: the training set has only 48"),
        (["data.fraction=0.01"], "data.fraction=0.01: cannot be drawn from 48 images"),
        (["data.dataset=cifar10"], "data.format='dali' with data.dataset='cifar10': it is for im"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_refusals(images: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        pretrain(config(images, *overrides))


@marked
def test_a_file_that_is_no_image(images: Path) -> None:
    (images / "train" / "class0" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"data.train_path=.*class0/notes.txt is not an image"):
        pretrain(config(images))


@marked
def test_a_damaged_file_is_named(images: Path) -> None:
    damaged = images / "train" / "class0" / "1.png"
    content = damaged.read_bytes()
    damaged.write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"class0/1.png: cannot be read as an image"):
        pretrain(config(images))
    damaged.write_bytes(content[:100])
    with pytest.raises(UnreadableImageError, match=r"data.train_path=.*image_folder names it"):
        pretrain(config(images))
    (images / "train" / "class0" / "0.png").write_bytes(content[:100])
    with pytest.raises(UnreadableImageError, match=r"1 of 16 images .*class0/0.png"):
        pretrain(config(images))


@pytest.mark.solo_learn
def test_without_dali(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    monkeypatch.delitem(sys.modules, "solo.data.dali_dataloader", raising=False)
    monkeypatch.delattr("solo.data.dali_dataloader", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[dali\]"):
        check_dali(OmegaConf.create({}))
