"""Official layouts give our backbones the official networks' features; anything else is refused."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from mixbt_plugin.apps.weights import load_backbone
from mixbt_plugin.checkpoints import Stem, find_backbone, load_into, read_file, stem_of
from tests.checkpoints import official

FEATURES = {"resnet18": 512, "resnet50": 2048}
IMAGES = torch.randn(2, 3, 33, 33, generator=torch.Generator().manual_seed(0))


def our_backbone(name: str, stem: Stem | None = None) -> Any:
    """torchvision's ResNet, with a 3 x 3 stem where one is given."""
    backbone = getattr(torchvision.models, name)()
    backbone.fc = nn.Identity()
    if stem:
        backbone.conv1 = nn.Conv2d(3, 64, 3, padding=stem.padding, bias=False)
        backbone.relu = nn.ReLU() if stem.relu else nn.Identity()
        backbone.maxpool = nn.MaxPool2d(3, 2, 1) if stem.max_pool else nn.Identity()
    return backbone.eval()


def saved(content: Any, name: str = "weights.pth") -> Path:
    torch.save(content, name)
    return Path(name)


def assert_same_features(ours: nn.Module, theirs: nn.Module) -> None:
    with torch.no_grad():
        torch.testing.assert_close(ours(IMAGES), theirs(IMAGES), rtol=1e-5, atol=1e-5)


SMALL = {
    ("resnet50", "mix-bt on CIFAR"): Stem(1, relu=True, max_pool=False),
    ("resnet18", "mix-bt on STL-10"): Stem(1, relu=True, max_pool=True),
    ("resnet18", "fastssl with its own ResNet"): Stem(1, relu=False, max_pool=False),
    ("resnet50", "fastssl with torchvision's ResNet"): Stem(1, relu=True, max_pool=False),
}


@pytest.mark.parametrize("name,code", SMALL)
def test_networks_for_small_images(name: str, code: str, recwarn: Any, capsys: Any) -> None:
    theirs = official.small_image_network(name, code)
    if code.startswith("mix-bt"):
        content = official.mix_bt(theirs, FEATURES[name])
        state, layout, left = content, "mix-bt's layout for small images", "counters of thop 2"
    else:
        content = official.fastssl(theirs, FEATURES[name], own="own" in code)
        state, layout, left = content["model"], "fastssl's layout", "8 left (projector 8)"
    if name == "resnet18":  # as if under DDP
        ddp = official.prefixed("module.", state)
        content = {**content, "model": ddp} if "model" in content else ddp
    path = saved(content)

    stem = SMALL[name, code]
    ours = our_backbone(name, stem)
    load_backbone(ours, path)
    assert_same_features(ours, theirs)
    printed = capsys.readouterr().out
    assert f"{layout}: {len(theirs.state_dict())} tensors taken" in printed
    assert left in printed
    assert not recwarn.list

    another = stem._replace(padding=2)
    with pytest.warns(UserWarning, match=r"another stem \(padding=1 .* than .* \(padding=2 "):
        load_backbone(our_backbone(name, another), path)


@pytest.mark.parametrize("layout", ["checkpoint.pth", "resnet50.pth", "with fc", "safetensors"])
def test_networks_for_imagenet(layout: str, capsys: Any) -> None:
    theirs = official.resnet("resnet50")
    backbone = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    path = Path("model.safetensors")
    if layout == "safetensors":
        save_file(backbone, path)
    else:
        path = saved(
            {
                "checkpoint.pth": official.barlow_twins(theirs, 2048),
                "resnet50.pth": backbone,
                "with fc": theirs.state_dict(),
            }[layout]
        )
    ours = our_backbone("resnet50")
    load_backbone(ours, path)
    theirs.fc = nn.Identity()
    assert_same_features(ours, theirs)
    left = {
        "checkpoint.pth": "Barlow Twins' layout: 318 tensors taken, 11 left (projector 8, batch-n",
        "with fc": "a backbone alone: 318 tensors taken, 2 left (classifier 2)",
    }
    assert left.get(layout, "a backbone alone: 318 tensors taken, 0 left\n") in (
        capsys.readouterr().out
    )


def test_an_older_solo_learns_keys() -> None:
    theirs = official.resnet("resnet18")
    state = {f"encoder.{k}": v for k, v in theirs.state_dict().items() if k[:3] != "fc."}
    path = saved({"state_dict": {**state, "momentum_encoder.conv1.weight": torch.zeros(1)}})
    ours = our_backbone("resnet18")
    load_backbone(ours, path)
    theirs.fc = nn.Identity()
    assert_same_features(ours, theirs)


def test_the_optimizer_of_barlow_twins_names_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its main.py's LARS does; the function is neither needed nor called."""

    def exclude_bias_and_norm(*_: Any) -> None:
        raise AssertionError("called")

    exclude_bias_and_norm.__module__ = "__main__"
    exclude_bias_and_norm.__qualname__ = "exclude_bias_and_norm"
    content = official.barlow_twins(official.resnet("resnet18"), 512)
    content["optimizer"]["param_groups"][0]["weight_decay_filter"] = exclude_bias_and_norm
    with monkeypatch.context() as context:
        main = sys.modules["__main__"]
        context.setattr(main, "exclude_bias_and_norm", exclude_bias_and_norm, raising=False)
        path = saved(content)
    load_backbone(our_backbone("resnet18"), path)


@pytest.mark.parametrize("theirs,ours", [("resnet50", "resnet18"), ("resnet18", "resnet50")])
def test_another_architecture_is_refused(theirs: str, ours: str) -> None:
    path = saved(official.barlow_twins(official.resnet(theirs), FEATURES[theirs]))
    backbone = our_backbone(ours)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(ValueError, match=r"holds another backbone .* Read as Barlow Twins' layout"):
        load_backbone(backbone, path)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_another_kernel_size_is_refused() -> None:
    network = official.small_image_network("resnet18", "mix-bt on CIFAR")
    path = saved(official.mix_bt(network, 512))
    message = r"conv1.weight is 64 x 3 x 3 x 3 there, 64 x 3 x 7 x 7 here\."
    with pytest.raises(ValueError, match=message):
        load_backbone(our_backbone("resnet18"), path)


@pytest.mark.parametrize("lost", ["layer4.1.bn2.running_var", "conv1.weight"])
def test_a_missing_tensor_is_refused(lost: str) -> None:
    state = our_backbone("resnet18").state_dict()
    del state[lost]
    with pytest.raises(ValueError, match=rf"{lost} is missing\."):
        load_backbone(our_backbone("resnet18"), saved(state))


def test_files_before_batches_were_counted() -> None:
    state = our_backbone("resnet18").state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    load_backbone(our_backbone("resnet18"), saved(old))


def test_a_part_that_the_layout_does_not_explain_is_refused() -> None:
    content = official.barlow_twins(official.resnet("resnet18"), 512)
    content["model"]["module.teacher.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="does not explain the key 'teacher.weight'"):
        load_backbone(our_backbone("resnet18"), saved(content))


def test_numbered_parts_of_another_network_are_refused() -> None:
    content = {f"f.{i}.weight": torch.zeros(1) for i in range(4)}
    with pytest.raises(ValueError, match="its numbered parts with weights are 0, 1, 2, 3; a ResN"):
        load_backbone(our_backbone("resnet18"), saved(content))


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {},
        {"epoch": 3},
        {"model": {}},
        {"state_dict": {"backbone.x": 3}},
        {1: torch.ones(1)},
    ],
    ids=str,
)
def test_what_is_no_checkpoint_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="weights.pth: not a checkpoint"):
        load_backbone(our_backbone("resnet18"), saved(content))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = saved(official.barlow_twins(official.resnet("resnet18"), 512)).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    files = {
        "truncated.pth": whole[: len(whole) // 2],
        "flipped.pth": bytes(flipped),
        "text.pth": b"no checkpoint",
        "list.pth": pickle.dumps([1, 2, 3]),
        "network.pth": saved(nn.Linear(2, 2)).read_bytes(),
        "text.safetensors": b"no safetensors",
        "empty.pth": b"",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: not a checkpoint that can be read"):
            read_file(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none.pth: no such checkpoint\."):
        read_file(tmp_path / "none.pth")


def test_stems() -> None:
    assert stem_of(torchvision.models.resnet18()) == Stem(3, relu=True, max_pool=True)
    assert stem_of(nn.Linear(2, 2)) is None
    weights = find_backbone(our_backbone("resnet18").state_dict(), "a.pth")
    assert weights.stem is None
    load_into(our_backbone("resnet18"), weights, "a.pth")
