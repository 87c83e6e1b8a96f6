"""Every backbone of the host's registry takes the views that a config asks for, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from mixbt_plugin.apps.image_sizes import fit_backbone_to_views, require_image_size
from mixbt_plugin.apps.knn import knn
from mixbt_plugin.apps.linear import linear
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.host import HOST, METHODS, BaseMethod
from mixbt_plugin.registry import register
from tests.apps.composing import composed
from tests.configs import method_config
from tests.images import image_folder
from tests.versions import since

register()
OF_SOLO_LEARN_ALONE = ("poolformer", "wide_resnet")
LARGE = ("_small", "_base", "_large", "s24", "s36", "m36", "m48", "w8")
SEVERAL_SIZES = since("timm", "1.0.31", "Swin takes images of several sizes")
ALL = [
    pytest.param(
        name,
        marks=[
            *([pytest.mark.slow] if name.endswith(LARGE) else []),
            *([SEVERAL_SIZES] if name.startswith("swin") else []),
        ],
    )
    for name in BaseMethod._BACKBONES
    if not (HOST.is_embedded and name.startswith(OF_SOLO_LEARN_ALONE))
]


def config(name: str, *sizes: Any, **kwargs: Any) -> DictConfig:
    cfg = method_config("multiaug_barlow_twins", large=len(sizes))
    cfg.backbone = {"name": name, "kwargs": kwargs}
    cfg.augmentations = [{"crop_size": size} for size in sizes]
    return cfg


def features_of(cfg: DictConfig, *sizes: tuple[int, int]) -> list[tuple[int, ...]]:
    """Shapes of a method's features, on PyTorch's device without data."""
    with torch.device("meta"), torch.no_grad():
        model: Any = METHODS[cfg.method](cfg)
        return [tuple(model.eval()(torch.empty(2, 3, *size))["feats"].shape) for size in sizes]


@pytest.mark.parametrize("name", ALL)
def test_views_of_two_sizes(name: str) -> None:
    cfg = config(name, 64, [32, 32])
    fit_backbone_to_views(cfg)
    first, second = features_of(cfg, (64, 64), (32, 32))
    assert first == second
    built_for_a_size = name.startswith(("vit", "swin"))
    expected = {"img_size": 64, "dynamic_img_size": True} if built_for_a_size else {}
    assert cfg.backbone.kwargs == expected


@pytest.mark.parametrize("name", ["vit_tiny", "swin_tiny"])
def test_views_of_one_size(name: str) -> None:
    cfg = config(name, 32, [32, 32])
    fit_backbone_to_views(cfg)
    assert cfg.backbone.kwargs == {"img_size": 32}
    require_image_size(cfg, cfg.method, 32)
    with pytest.raises(ValueError, match=r"crop_size: .*_tiny with .* 64 x 64 .*dynamic_img_size"):
        require_image_size(cfg, cfg.method, 64)


@pytest.mark.parametrize(
    "kwargs,sizes,expected",
    [
        ({}, (224,), {}),
        ({"patch_size": 8}, ([24, 32],), {"img_size": [24, 32]}),
        ({"dynamic_img_size": True}, (32, 48), {}),
        ({"img_size": 48}, (32, 48), {"dynamic_img_size": True}),
        ({"dynamic_img_pad": True}, (24,), {"img_size": 24, "dynamic_img_size": True}),
    ],
)
def test_what_is_given_stays(kwargs: Any, sizes: Any, expected: Any) -> None:
    cfg = config("vit_tiny", *sizes, **kwargs)
    fit_backbone_to_views(cfg)
    assert cfg.backbone.kwargs == {**kwargs, **expected}


@pytest.mark.parametrize(
    "name,size,kwargs,message",
    [
        ("vit_tiny", 24, {}, r"24 x 24 pixels: its patches of 16 x 16 .*backbone.kwargs.patch_siz"),
        ("vit_tiny", 32, {"img_size": 64}, r"32 x 32 pixels: Input .*backbone.kwargs.img_size is"),
        pytest.param(
            *("convnext_tiny", 8, {}),
            r"8 x 8 pixels: .* Expected another crop_size or another back",
            marks=since("torch", "2.9", "an empty convolution is an error without data too"),
        ),
    ],
)
def test_what_cannot_work_is_refused(name: str, size: int, kwargs: Any, message: str) -> None:
    with pytest.raises(
        ValueError, match=f"backbone.name='{name}' does not take views of {message}"
    ):
        fit_backbone_to_views(config(name, size, **kwargs))


@pytest.mark.slow
def test_a_vit_trains_at_32_pixels_and_is_evaluated_at_them(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", per_class=3)
    paths = (f"data.train_path={folder / 'train'}", f"data.val_path={folder / 'val'}")
    run = pretrain(
        composed(
            "pretrain/custom/mixbt.yaml",
            *paths,
            *("backbone.name=vit_tiny", "view.crop_size=32"),
            *("second_view.crop_size=32", "optimizer.batch_size=16", "data.num_workers=0"),
            *("max_epochs=1", "precision=32", "accelerator=cpu", "devices=1"),
            *("method_kwargs.proj_hidden_dim=32", "method_kwargs.proj_output_dim=32"),
        )
    )
    (checkpoint,) = run.glob("*.ckpt")
    assert json.loads((run / "args.json").read_text())["backbone"]["kwargs"]["img_size"] == 32
    words = [f"pretrained_checkpoint={checkpoint}", "k=[3]", "feature_type=[backbone]"]
    (row, *_) = knn(composed("knn/default.yaml", *words))
    assert 0 < row["acc1"] <= 100
    words += ["++data.augmentations.crop_size=48"]
    with pytest.raises(ValueError, match=r"crop_size: vit_tiny .* not take images of 48 x 48"):
        knn(composed("knn/default.yaml", *words))
    assert knn(composed("knn/default.yaml", *words, "++backbone.kwargs.dynamic_img_size=true"))
    words = [f"pretrained_feature_extractor={checkpoint}", "++data.augmentations.crop_size=48"]
    with pytest.raises(ValueError, match=r"crop_size: vit_tiny .* not take images of 48 x 48"):
        linear(composed("linear/custom.yaml", *paths, *words, "accelerator=cpu", "devices=1"))
