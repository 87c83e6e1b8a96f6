"""Every shipped config of evaluation and comparison composes, parses and says what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mixbt_plugin.apps.command import config_root, shipped_configs
from mixbt_plugin.apps.comparison.arms import composed_arm, parsed
from mixbt_plugin.apps.schema import check_linear, checked_comparison
from mixbt_plugin.apps.training import prepare
from mixbt_plugin.data import complete_images, image_size, linear_transforms, passes_transform
from mixbt_plugin.host import build_backbone, parse_linear_cfg
from mixbt_plugin.keys import LinearConfig, PretrainConfig
from mixbt_plugin.methods import LinearEvaluation
from tests.recipes.shipped import FIELDS, built, composed, header


def configs(*groups: str) -> list[str]:
    root = config_root()
    found = [path for group in groups for path in shipped_configs(group)]
    return [str(path.relative_to(root).with_suffix("")) for path in found]


TRAINED = configs("linear", "finetuning", "transfer")


@pytest.mark.parametrize("config", TRAINED)
def test_config_composes_parses_and_builds(config: str) -> None:
    cfg = composed(config)
    cfg.pretrained_feature_extractor = "a.ckpt"
    cfg.backbone.name = "narrow_resnet10"
    for key in ("train_path", "val_path"):
        if cfg.data[key] is not None:
            Path(cfg.data[key], "class0").mkdir(parents=True, exist_ok=True)
    prepare(cfg, check_linear)
    cfg = parse_linear_cfg(cfg)
    model = LinearEvaluation(build_backbone(cfg, None)[0], cfg)
    assert model.backbone_batch_norm == ("train" if cfg.finetune else "eval")
    complete_images(cfg, None)
    linear_transforms(cfg)
    if cfg.feature_passes > 1:
        passes_transform(cfg)


@pytest.mark.parametrize(
    "dataset,passes,batch_size", [("cifar10", 16, 512), ("stl10", 16, 100), ("imagenet100", 1, 128)]
)
def test_fastssls_protocol(dataset: str, passes: int, batch_size: int) -> None:
    """Its scripts of sbatch_sh_files/multiPatch, whose rate does not vary with the batch."""
    cfg = composed(f"linear/fastssl/{dataset}")
    assert (cfg.get("feature_passes", 1), cfg.optimizer.batch_size) == (passes, batch_size)
    assert cfg.optimizer.lr * batch_size / 256 == pytest.approx(1e-3)
    assert (cfg.optimizer.name, cfg.scheduler.name, cfg.max_epochs) == ("adam", "none", 200)
    assert (cfg.label_smoothing, cfg.optimizer.weight_decay) == (0.1, 1e-6)


@pytest.mark.parametrize("config", TRAINED)
def test_images_have_the_size_of_pretraining_or_the_header_says_another(config: str) -> None:
    pretraining = OmegaConf.create(
        {"data": {"dataset": "custom"}, "augmentations": [{"crop_size": 48}]}
    )
    cfg = composed(config)
    OmegaConf.set_struct(cfg, False)
    images = complete_images(cfg, pretraining)
    sizes = {images.size, *(image_size(view.crop_size) for view in cfg.augmentations or ())}
    said = {int(size) for size in re.findall(r"at (\d+)(?: px|\.|,)", header(config)["What"])}
    assert sizes == {(size, size) for size in said or {48}}


MIX_BT_STATISTICS = {
    "aircraft": ([0.486, 0.507, 0.525], [0.266, 0.260, 0.276]),
    "cub200": ([0.483, 0.491, 0.424], [0.228, 0.224, 0.259]),
    "dtd": ([0.533, 0.474, 0.426], [0.261, 0.250, 0.259]),
    "fashion_mnist": ([0.348] * 3, [0.347] * 3),
    "flowers102": ([0.518, 0.410, 0.329], [0.296, 0.249, 0.285]),
    "gtsrb": ([0.335, 0.291, 0.295], [0.267, 0.249, 0.251]),
    "mnist": ([0.170] * 3, [0.320] * 3),
    "photo_patches": ([0.4] * 3, [0.24] * 3),
}


@pytest.mark.parametrize("dataset", MIX_BT_STATISTICS)
def test_transfer_normalises_as_mix_bt(dataset: str) -> None:
    """mix-bt/data_statistics.py; training and test images alike."""
    cfg = composed(f"transfer/{dataset}")
    complete_images(cfg, None)
    for transform in linear_transforms(cfg):
        normalize: Any = transform.transforms[-1]  # type: ignore[attr-defined]
        assert (normalize.mean, normalize.std) == MIX_BT_STATISTICS[dataset]


@pytest.mark.parametrize("config", [*TRAINED, *configs("knn")])
def test_config_says_what_it_reproduces(config: str) -> None:
    fields = header(config)
    assert set(FIELDS) <= set(fields) <= {*FIELDS, "Deviates", "Variants"}
    assert all(fields.values())
    assert fields["Run here"].split(",")[0] in ("yes", "no")


@pytest.mark.parametrize("config", configs("compare"))
def test_every_arm_of_a_comparison_composes_and_builds(config: str) -> None:
    comparison = checked_comparison(composed(config))
    for name in comparison.arms:
        cfg = parsed(composed_arm(comparison.arm(name), comparison))
        assert cfg.knn_eval.enabled is False
        built(cfg)


def test_no_folder_has_the_name_of_a_key() -> None:
    """Hydra would take ``finetune=true`` for the choice of a file in it."""
    folders = {path.name for path in config_root().iterdir()}
    keys = {*PretrainConfig.model_fields, *LinearConfig.model_fields}
    assert not folders & keys
