"""The commands that take weights take official files; what was trained here leaves for timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from omegaconf import DictConfig
from safetensors.torch import save_file

from mixbt_plugin.apps.export import export
from mixbt_plugin.apps.knn import knn
from mixbt_plugin.apps.linear import linear
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.apps.weights import load_pretrained
from mixbt_plugin.settings import ConfigError
from tests.apps.composing import composed
from tests.checkpoints import official
from tests.images import image_folder

KNN = ("k=[3]", "temperature=[0.1]", "distance_function=[cosine]")
SIZE = "data.augmentations.crop_size=32"


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Overrides that name folders of 36 training images."""
    folder = image_folder(tmp_path / "images", per_class=6)
    paths = [f"++data.train_path={folder / 'train'}", f"++data.val_path={folder / 'val'}"]
    return ["data.dataset=custom", *paths]


def small_run(path: str, *overrides: str) -> DictConfig:
    return composed(
        path,
        *("backbone.name=resnet18", "optimizer.batch_size=16", "data.num_workers=0"),
        *("max_epochs=1", "precision=32", "accelerator=cpu", "devices=1", *overrides),
    )


@pytest.mark.slow
def test_pretrained_here_exported_and_loaded_in_timm(images: list[str]) -> None:
    folder = pretrain(small_run("pretrain/photo_patches/mixbt.yaml", *images))
    (checkpoint,) = folder.glob("*.ckpt")
    where = f"pretrained_checkpoint={checkpoint}"
    model, *_ = load_pretrained(composed("knn/default.yaml", where))
    batch = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = model.backbone(batch)
        file = export(composed("export/default.yaml", where))
        theirs = timm.create_model("resnet18", checkpoint_path=str(file), num_classes=0).eval()
        torch.testing.assert_close(theirs(batch), features, rtol=1e-5, atol=1e-6)
    file = export(composed("export/default.yaml", where, "format=torchvision"))
    again = (f"pretrained_checkpoint={file}", "backbone.name=resnet18", "data.dataset=custom")
    with pytest.raises(ConfigError, match="folder=.*: the export would take the place of"):
        export(
            composed("export/default.yaml", *again, "format=torchvision", f"folder={file.parent}")
        )
    assert file == folder / "torchvision" / "resnet18.pth"

    # kNN of the exported file is that of the checkpoint.
    words = [*KNN, "feature_type=[backbone]"]
    expected = knn(composed("knn/default.yaml", where, *words))
    words += [f"pretrained_checkpoint={file}", "backbone.name=resnet18", *images, SIZE]
    found = knn(composed("knn/default.yaml", *words))
    assert [row["acc1"] for row in found] == [row["acc1"] for row in expected]


FILES: dict[str, tuple[str, ...]] = {
    "barlow_twins.pth": ("backbone.name=resnet18",),
    "mix-bt.pth": ("backbone.name=stem_resnet18", "+backbone.kwargs.stem=3x3"),
    "torchvision.pth": ("backbone.name=resnet18",),
    "timm.safetensors": ("backbone.name=resnet18",),
    "timm_vit.safetensors": (
        "backbone.name=vit_tiny",
        *("+backbone.kwargs.img_size=224", "+backbone.kwargs.dynamic_img_size=true"),
    ),
}


@pytest.fixture
def models_to_train(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `pretrain` hands over to be trained; it is not."""
    models: list[Any] = []
    monkeypatch.setattr(
        "mixbt_plugin.apps.pretrain.fit", lambda _, model, *rest: models.append(model)
    )
    monkeypatch.setattr("mixbt_plugin.apps.results.Results.print", lambda *_: None)
    return models


def file_of(name: str) -> tuple[Path, dict[str, Any]]:
    """A file of another code, and the backbone's weights in it."""
    if name == "mix-bt.pth":
        children = official.small_image_network("resnet18", "mix-bt on STL-10")
        torch.save(official.mix_bt(children, 512), name)
        return Path(name), {"conv1.weight": children[0].weight}
    vit = "vit" in name
    network = timm.create_model("vit_tiny_patch16_224") if vit else official.resnet("resnet18")
    weights = network.state_dict()
    if name.endswith(".safetensors"):
        save_file(weights, name)
    else:
        torch.save(official.barlow_twins(network, 512) if "barlow" in name else weights, name)
    return Path(name), weights


@pytest.mark.parametrize("name,words", FILES.items())
def test_pretraining_starts_from_given_weights(
    name: str, words: Any, images: list[str], models_to_train: list[Any]
) -> None:
    path, theirs = file_of(name)
    words = (*words, f"++pretrained_feature_extractor={path}", *images)
    pretrain(small_run("pretrain/photo_patches/mixbt.yaml", *words))
    (model,) = models_to_train
    ours = model.backbone.state_dict()
    shared = ours.keys() & theirs.keys()
    assert shared
    assert all(torch.equal(ours[key], theirs[key]) for key in shared)


@pytest.mark.parametrize(
    "words,message",
    [
        (("backbone.name=resnet50",), "torchvision.pth: holds another backbone than backbone.name"),
        (("backbone.name=resnet18", "data.dataset=cifar10"), "conv1.weight is 64 x 3 x 7 x 7 ther"),
        (
            ("backbone.name=resnet18", "++pretrained_feature_extractor=nothing.pth"),
            "nothing.pth: no",
        ),
    ],
)
def test_given_weights_that_do_not_fit_are_refused(
    words: Any, message: str, images: list[str], models_to_train: list[Any]
) -> None:
    path, _ = file_of("torchvision.pth")
    words = (f"++pretrained_feature_extractor={path}", *images, *words)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pretrain(small_run("pretrain/photo_patches/mixbt.yaml", *words))
    assert not models_to_train


def official_file(name: str) -> Path:
    """A file of mix-bt's for small images, or of Barlow Twins' for ImageNet."""
    if name == "mix-bt":
        network = official.small_image_network("resnet18", "mix-bt on CIFAR")
        content = official.mix_bt(network, 512)
    else:
        content = official.barlow_twins(official.resnet("resnet18"), 512)
    torch.save(content, "official.pth")
    return Path("official.pth")


@pytest.mark.slow
def test_linear_takes_an_official_file(images: list[str], capsys: Any) -> None:
    path = official_file("barlow_twins")
    cfg = small_run("linear/photo_patches.yaml", f"pretrained_feature_extractor={path}", *images)
    folder = linear(cfg)
    (saved,) = folder.glob("*.ckpt")
    theirs = torch.load(path, weights_only=True)["model"]
    ours = torch.load(saved, weights_only=True)["state_dict"]
    key = "backbone.layer4.1.bn2.running_var"
    assert torch.equal(ours[key], theirs[f"module.{key}"])
    assert "Barlow Twins' layout: 120 tensors taken, 11 left" in capsys.readouterr().out


def test_knn_takes_an_official_file(images: list[str]) -> None:
    path = official_file("barlow_twins")
    words = [f"pretrained_checkpoint={path}", *KNN]
    config = "knn/default.yaml"
    with pytest.raises(ValueError, match=r"backbone.name is missing: official.pth has no args.jso"):
        knn(composed(config, *words))
    with pytest.raises(ValueError, match=r"data.dataset is missing"):
        knn(composed(config, *words, "backbone.name=resnet18"))
    cfg = composed(config, *words, "backbone.name=resnet18", *images, SIZE)
    with pytest.raises(ValueError, match=r"'projector': there is no projector"):
        knn(cfg)
    cfg.feature_type = ["backbone"]
    (row,) = knn(cfg)
    assert 0 < row["acc1"] <= 100


def test_export_takes_an_official_file(images: list[str]) -> None:
    path = official_file("barlow_twins")
    words = (f"pretrained_checkpoint={path}", "backbone.name=resnet18", "data.dataset=imagenet")
    file = export(composed("export/default.yaml", *words, "folder=for_timm"))
    assert file == Path("for_timm/model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"nothing.pth: no such"):
        export(composed("export/default.yaml", "pretrained_checkpoint=nothing.pth"))


@pytest.mark.parametrize("word", ["data.train_path=x", "data.format=h5", "data.color=false"])
def test_export_refuses_what_it_does_not_read(word: str) -> None:
    with pytest.raises(ConfigError, match=f"{word.partition('=')[0]}=.*: an export reads no image"):
        export(composed("export/default.yaml", "pretrained_checkpoint=x.ckpt", word))


def test_another_stem_is_warned_of(recwarn: Any) -> None:
    """solo-learn's stem for CIFAR pads by 2, mix-bt's by 1; the weights fit both."""
    words = (f"pretrained_checkpoint={official_file('mix-bt')}", "data.dataset=cifar10")
    stem = ("+backbone.kwargs.stem=3x3", "+backbone.kwargs.max_pool=false")
    load_pretrained(composed("knn/default.yaml", *words, "backbone.name=stem_resnet18", *stem))
    assert not recwarn.list
    cfg = composed("knn/default.yaml", *words, "backbone.name=resnet18")
    with pytest.warns(UserWarning, match=r"another stem \(padding=1 relu=true max_pool=false\)"):
        load_pretrained(cfg)
