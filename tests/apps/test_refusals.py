"""What the commands refuse: with which words, and before anything is trained."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps.knn import knn
from mixbt_plugin.apps.linear import linear
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.data.sources import SOURCES
from tests.apps.composing import composed
from tests.images import image_folder


class TrainingStartedError(Exception):
    """What a config that should have been refused leads to."""


@pytest.fixture(autouse=True, scope="module")
def no_training() -> Any:
    def fit(*_: Any, **__: Any) -> None:
        raise TrainingStartedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", fit)
        yield


@pytest.mark.parametrize(
    "overrides,message",
    [
        (["method=mixbtt"], "method='mixbtt' is not known: did you mean 'mixbt'?"),
        (
            ["+method_kwargs.lambda=1"],
            "method_kwargs.lambda is not a key of mixbt: did you mean lamb",
        ),
        (["+optimizer.weight_decai=0.1"], "optimizer.weight_decai is not a key: did you mean wei"),
        (["+max_epoch=3"], "max_epoch is not a key: did you mean max_epochs?"),
        (["~optimizer.lr"], "optimizer.lr is missing: learning rate of 256 images a step"),
        (["optimizer.lr=fast"], "optimizer.lr='fast': expected float"),
        (["optimizer.lr=nan"], "optimizer.lr=nan: expected a finite number"),
        (["+optimizer.kwargs.momentun=0.9"], "optimizer.kwargs={'momentun': 0.9}: adamw does not"),
        (["+backbone.kwargs.depth=9"], "backbone.kwargs={'depth': 9}: narrow_resnet10 does not"),
        (["backbone.name=resnet81"], "backbone.name='resnet81' is not known: did you mean 'resne"),
        (["scheduler.name=cosine"], "scheduler.name='cosine': expected one of warmup_cosine, st"),
        (["view.crop_size=-1"], "augmentations[0].crop_size=-1: expected a positive"),
        (["view.rrc.crop_min_scale=2"], "augmentations[0].rrc.crop_min_scale=2.0: exp"),
        (["~view.grayscale"], "augmentations[0].grayscale is missing"),
        (["view.num_crops=1"], "augmentations: 1 view(s) found (1 large, 0 small crops"),
        (["devices=0"], "devices=0: expected a positive number"),
        (
            ["optimizer.batch_size=5000"],
            "optimizer.batch_size=5000: the training set has only 4000",
        ),
        (["precision=8"], "precision=8: expected one of 16, 32"),
        (["data.dataset=custom", "+data.train_path=/nowhere"], "nowhere"),
        (["data.fraction=1.5"], "data.fraction=1.5: expected a share in (0, 1)"),
    ],
)
def test_pretrain(overrides: list[str], message: str) -> None:
    cfg = composed("pretrain/mnist5k/mixbt.yaml", *overrides)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        pretrain(cfg)
    assert message in str(caught.value)
    assert not Path("trained_models").exists()


@pytest.mark.parametrize(
    "overrides,message",
    [
        (
            ["data.dataset=tinyimagenet"],
            "data.dataset='tinyimagenet' is not known: did you mean 'tiny_",
        ),
        (["data.train_path=null"], "data.train_path is missing"),
        (["data.train_path=nowhere"], "data.train_path='nowhere': no such folder"),
        (["data.train_path=empty"], "data.train_path='empty': the folder is empty"),
        (["data.val_path=empty"], "data.val_path='empty': the folder is empty"),
        (["data.train_path=file"], "data.train_path='file': is a file; expected a folder"),
        (["data.train_path=flat"], "data.train_path='flat': Couldn't find any class folder"),
        (
            ["+data.no_labels=true"],
            "data.train_path='images/train': no images in it; class folders",
        ),
        (
            ["data.val_path=other"],
            "data.val_path='other': its classes are not those of data.train_",
        ),
        (
            ["data.dataset=imagenet", "+data.no_labels=true"],
            "data.no_labels=True with data.dataset='imagenet': it is for 'custom'",
        ),
        (["data.format=h5"], "data.format='h5' with data.dataset='custom': it is for imagenet, im"),
        (
            ["data.format=h5", "data.dataset=imagenet"],
            "data.train_path='images/train': no such file; data.format=h5 reads one H5 file",
        ),
        (["data.fraction=0.01"], "data.fraction=0.01: cannot be drawn from 48 images"),
    ],
)
def test_data(overrides: list[str], message: str) -> None:
    image_folder(Path("images"))
    Path("empty").mkdir()
    Path("file").touch()
    Path("flat").mkdir()
    Path("flat", "0.png").hardlink_to("images/train/class0/0.png")
    Path("other/class0").mkdir(parents=True)
    Path("other/class0/0.png").hardlink_to("images/train/class0/0.png")
    with pytest.raises(ValueError, match=r"^" + re.escape(message)):
        pretrain(
            composed(
                "pretrain/cifar/mixbt.yaml",
                "data.dataset=custom",
                "data.train_path=images/train",
                "data.val_path=images/val",
                "optimizer.batch_size=16",
                *overrides,
            )
        )


@pytest.mark.parametrize("method", ["barlow_twins", "vicreg"])
def test_the_baselines_keys_too(method: str) -> None:
    cfg = composed(f"pretrain/mnist5k/{method}.yaml", "+method_kwargs.scale_los=1")
    with pytest.raises(ValueError, match=f"method_kwargs.scale_los is not a key of {method}"):
        pretrain(cfg)


@pytest.mark.parametrize(
    "content,message",
    [
        (None, "x.ckpt: no such"),
        ("text", "x.ckpt: not a checkpoint that can be read"),
        ({"state_dict": {"backbone.x": torch.zeros(1)}}, "than backbone.name says"),
    ],
)
def test_what_is_no_checkpoint(content: Any, message: str) -> None:
    if isinstance(content, str):
        Path("x.ckpt").write_text(content)
    elif content:
        torch.save(content, "x.ckpt")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        linear(
            composed(
                "linear/mnist5k.yaml",
                "pretrained_feature_extractor=x.ckpt",
                "backbone.name=narrow_resnet10",
            )
        )


def test_knn_without_a_checkpoint() -> None:
    with pytest.raises(ValueError, match="pretrained_checkpoint is missing"):
        knn(composed("knn/default.yaml"))
    with pytest.raises(FileNotFoundError, match="nothing.ckpt: no such file"):
        knn(composed("knn/default.yaml", "pretrained_checkpoint=nothing.ckpt"))


TEXT = st.text("abcxyz_!", min_size=1, max_size=8).filter(
    lambda text: text.lower() not in ("y", "none", "yes", "no")
)
NOT_A_NUMBER: Any = TEXT | st.none() | st.lists(st.integers(), max_size=2) | st.just({"a": 1})
NOT_FINITE: Any = st.sampled_from([math.nan, math.inf, -math.inf])
FRACTIONS: Any = st.floats(0.01, 0.99)


def negative() -> Any:
    return st.integers(-1000, -1) | st.floats(-1e6, -1e-6)


def not_a_count(low: int = 1) -> Any:
    return NOT_A_NUMBER | st.integers(-1000, low - 1) | FRACTIONS | NOT_FINITE


def not_a_rate() -> Any:
    return NOT_A_NUMBER | negative() | NOT_FINITE


def not_a_probability() -> Any:
    return NOT_A_NUMBER | negative() | NOT_FINITE | st.floats(1.01, 1e6)


def not_a_switch() -> Any:
    return TEXT | st.none() | st.lists(st.booleans()) | st.just({"a": True})


def optional(values: Any) -> Any:
    return values.filter(lambda value: value is not None)


BAD_VALUES: dict[str, Any] = {
    "method": TEXT,
    "max_epochs": not_a_count(),
    "seed": not_a_count(low=0),
    "num_nodes": not_a_count(),
    "log_every_n_steps": not_a_count(),
    "accumulate_grad_batches": optional(not_a_count()),
    "precision": TEXT | st.sampled_from([8, 0, -1, "fp8"]),
    "accelerator": TEXT,
    "sync_batchnorm": not_a_switch(),
    "devices": st.integers(-9, -2) | st.just(0) | TEXT | st.just([]) | st.just([1, 1]),
    "backbone": TEXT | st.just({}) | st.just([1]),
    "backbone.name": TEXT | st.just(None),
    "backbone.kwargs": st.fixed_dictionaries({"no_such_key": st.integers()}),
    "data": TEXT | st.just({}) | st.just([1]),
    "data.dataset": TEXT,
    "data.num_workers": not_a_count(low=0),
    "data.fraction": NOT_A_NUMBER | NOT_FINITE | st.floats(1.01, 9) | st.sampled_from([0, -0.5, 1]),
    "data.no_labels": not_a_switch(),
    "data.format": TEXT | st.just("h6"),
    "data.unreadable": TEXT,
    "data.color": not_a_switch(),
    "optimizer": TEXT | st.just({}) | st.just(3),
    "optimizer.name": TEXT | st.just(None),
    "optimizer.batch_size": not_a_count(low=2) | st.integers(4001, 10**6),
    "optimizer.lr": not_a_rate(),
    "optimizer.classifier_lr": not_a_rate(),
    "optimizer.weight_decay": not_a_rate(),
    "optimizer.exclude_bias_n_norm_wd": not_a_switch(),
    "optimizer.kwargs": st.fixed_dictionaries({"no_such_key": st.floats(0.1, 1)}),
    "scheduler": TEXT | st.just({}),
    "scheduler.name": TEXT | st.just(None),
    "scheduler.warmup_epochs": not_a_rate(),
    "scheduler.min_lr": not_a_rate(),
    "scheduler.warmup_start_lr": not_a_rate(),
    "scheduler.interval": TEXT,
    "checkpoint.enabled": not_a_switch(),
    "checkpoint.frequency": not_a_count(),
    "checkpoint.keep_prev": not_a_switch(),
    "knn_eval.enabled": not_a_switch(),
    "knn_eval.k": not_a_count(),
    "knn_eval.distance_func": TEXT,
    "numerics.on_nonfinite": TEXT,
    "numerics.max_skipped": not_a_count(low=0),
    "numerics.warn_of_collapse": not_a_switch(),
    "augmentations": TEXT | st.none() | st.just([]) | st.just([{}]) | st.just([3]),
    "augmentations.0.crop_size": NOT_A_NUMBER.filter(lambda v: not isinstance(v, list))
    | st.integers(-99, 0)
    | FRACTIONS
    | st.just([16, 16, 16]),
    "augmentations.0.num_crops": not_a_count(),
    "augmentations.0.rrc.enabled": not_a_switch(),
    "augmentations.0.rrc.crop_min_scale": not_a_probability() | st.just(0),
    "augmentations.0.rrc.crop_max_scale": not_a_probability() | st.just(0),
    "augmentations.0.color_jitter.prob": not_a_probability(),
    "augmentations.0.color_jitter.hue": not_a_probability() | st.floats(0.51, 1),
    "augmentations.0.color_jitter.brightness": not_a_rate(),
    "augmentations.0.grayscale.prob": not_a_probability(),
    "augmentations.0.gaussian_blur.prob": not_a_probability(),
    "augmentations.0.solarization.prob": not_a_probability(),
    "augmentations.0.equalization.prob": not_a_probability(),
    "augmentations.0.horizontal_flip.prob": not_a_probability(),
    "augmentations.0.mean": TEXT | st.just([0.5]) | st.just([1, 2, 3, 4]),
    "method_kwargs": TEXT | st.just([1]) | st.just({}),
    "method_kwargs.no_such_key": st.integers(),
    "method_kwargs.proj_hidden_dim": not_a_count(),
    "method_kwargs.proj_output_dim": not_a_count(),
    "method_kwargs.proj_num_layers": not_a_count(),
    "method_kwargs.proj_hidden_bias": not_a_switch(),
    "method_kwargs.impl": TEXT | st.none(),
    "method_kwargs.ddp": TEXT,
    "method_kwargs.lamb": not_a_rate(),
    "method_kwargs.scale_loss": not_a_rate() | st.just(0),
    "method_kwargs.eps": not_a_rate(),
    "method_kwargs.unbiased": not_a_switch(),
    "method_kwargs.lamb_reg": not_a_rate(),
    "method_kwargs.lamb_reg_warmup_epochs": not_a_rate(),
    "method_kwargs.mix_alpha": not_a_rate() | st.just(0),
    "method_kwargs.mix_per_sample": not_a_switch(),
    "method_kwargs.target": TEXT,
}


@pytest.fixture(scope="module")
def load_digits_once() -> Any:
    """Batches are cut after the data set is read, and reading the digits takes a second."""
    digits = SOURCES["mnist5k"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "mnist5k", replace(digits, load=cache(digits.load)))
        yield


@pytest.fixture(scope="module")
def good() -> DictConfig:
    cfg = composed("pretrain/mnist5k/mixbt.yaml", "+backbone.kwargs.width=8")
    # So that a value can be set in a pipeline itself, not only in the part that it is made of.
    OmegaConf.resolve(cfg)
    return cfg


def test_the_config_that_is_broken_below_is_good(good: DictConfig) -> None:
    with pytest.raises(TrainingStartedError):
        pretrain(good.copy())


@settings(
    max_examples=1200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_bad_value_starts_training_or_passes_without_a_word(
    data: Any, good: DictConfig, load_digits_once: None
) -> None:
    key = data.draw(st.sampled_from(sorted(BAD_VALUES)))
    value = data.draw(BAD_VALUES[key])
    cfg = good.copy()
    OmegaConf.set_struct(cfg, False)
    OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    with pytest.raises(ValueError, match=re.escape(key.replace("s.0", "s[0]"))):
        pretrain(cfg)
