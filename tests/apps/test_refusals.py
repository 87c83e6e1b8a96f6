"""What the commands refuse: with which words, and before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from mixbt_plugin.apps.knn import knn
from mixbt_plugin.apps.linear import linear
from mixbt_plugin.apps.pretrain import pretrain
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
        (["optimizer.lr=fast"], "optimizer.lr='fast': expected a number"),
        (["optimizer.lr=nan"], "optimizer.lr=nan: expected a number of at least 0"),
        (["+optimizer.kwargs.momentun=0.9"], "optimizer.kwargs.momentun is not a key of adamw"),
        (["+backbone.kwargs.depth=9"], "backbone.kwargs={'depth': 9}: narrow_resnet10 does not"),
        (["backbone.name=resnet81"], "backbone.name='resnet81' is not known: did you mean 'resne"),
        (["scheduler.name=cosine"], "scheduler.name='cosine': expected one of warmup_cosine, st"),
        (["view.crop_size=-1"], "view.crop_size=-1: expected a positive"),
        (
            ["view.rrc.crop_min_scale=2"],
            "view.rrc.crop_min_scale=2: expected a number above",
        ),
        (["~view.grayscale"], "view.grayscale.prob is missing: a probability"),
        (["view.num_crops=1"], "view.num_crops=1: mixbt takes 2 views together"),
        (["devices=0"], "devices=0: expected a positive number"),
        (
            ["optimizer.batch_size=5000"],
            "optimizer.batch_size=5000: the training set has only 4000 images, and incomplete "
            "batches are dropped; expected at most 4000",
        ),
        (["precision=8"], "precision=8: expected one of 16, 32"),
        (["data.dataset=custom", "data.train_path=/nowhere"], "nowhere"),
        (["data.fraction=1.5"], "data.fraction=1.5: expected a share in (0, 1)"),
        (
            ["scheduler.min_lr=0.5"],
            "scheduler.min_lr=0.5 is above the learning rate in effect, 0.002 (optimizer.lr=0.004",
        ),
        (["scheduler.name=step"], "scheduler.lr_decay_steps is missing: the epochs at which"),
        (
            ["optimizer.name=lars", "+optimizer.kwargs.eta=-1"],
            "optimizer.kwargs.eta=-1: expected a number above 0",
        ),
        (
            ["optimizer.name=lars", "+optimizer.kwargs.eta=abc"],
            "optimizer.kwargs.eta='abc': expected a number above 0",
        ),
        (["profiler=simple", "fast_dev_run=true"], "profiler='simple' with fast_dev_run=True: its"),
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
        (["data.train_path=flat"], "data.train_path='flat': there is no class folder in it"),
        (
            ["data.val_path=other"],
            "data.val_path='other': its classes are not those of data.train_",
        ),
        (
            ["data.dataset=imagenet", "data.no_labels=true"],
            "data.no_labels=True with data.dataset='imagenet': it is for 'custom'",
        ),
        (
            ["data.format=h5", "data.dataset=imagenet"],
            "data.train_path='images/train': no such file; data.format=h5 reads one H5 file",
        ),
        (["data.fraction=0.01"], "data.fraction=0.01: cannot be drawn from 48 images"),
        (
            ["data.train_path=images", "data.val_path=images"],
            "data.train_path='images': its folders would be the classes, and they are train, val;",
        ),
        (
            ["data.no_labels=true"],
            "data.val_path='images/val' with data.no_labels=True: without labels nothing is valid",
        ),
        (
            ["data.no_labels=true", "data.val_path=null", "knn_eval.enabled=true"],
            "knn_eval.enabled=True with data.val_path=None: there are no images to classify",
        ),
        (
            ["knn_eval.enabled=true", "data.val_path=null"],
            "knn_eval.enabled=True with data.val_path=None: there are no images to classify",
        ),
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


@pytest.mark.parametrize(
    "overrides,message",
    [
        (["scheduler.warmup_epochs=9", "max_epochs=3"], "never exceeds 33% of optimizer.lr"),
        (
            ["scheduler.name=step", "scheduler.lr_decay_steps=[6]", "max_epochs=3"],
            "the learning rate is never lowered",
        ),
        (["data.train_path=/data"], "data.train_path='/data' is not read: data.dataset='mnist5k'"),
    ],
)
def test_what_cannot_be_meant_is_warned_of(overrides: list[str], message: str) -> None:
    with (
        pytest.warns(UserWarning, match=re.escape(message)),
        pytest.raises(TrainingStartedError),
    ):
        pretrain(composed("pretrain/mnist5k/mixbt.yaml", *overrides))


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
