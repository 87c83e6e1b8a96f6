"""timm and torchvision load the exported files and compute our backbone's features."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from omegaconf import OmegaConf
from safetensors.torch import load_file
from timm.data.config import resolve_model_data_config
from torch import nn

from mixbt_plugin.checkpoints import (
    ExportError,
    ImageFormat,
    OnnxBackbone,
    export_backbone,
    exporting,
    load_into,
    onnx_files,
)
from mixbt_plugin.checkpoints.layouts import find_backbone
from mixbt_plugin.checkpoints.onnx_files import write_onnx
from mixbt_plugin.checkpoints.reading import read_file
from mixbt_plugin.host import build_backbone
from mixbt_plugin.registry import register
from mixbt_plugin.settings import ConfigError, MissingPackageError
from tests.checkpoints import official
from tests.versions import since

register()
IMAGES = ImageFormat((64, 48), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
BATCH = torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(7))

NARROW = ("narrow_resnet10", {"width": 8})
VIT = ("vit_tiny", {"img_size": 32, "patch_size": 8})
needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="needs extra [onnx]"
)


class Means(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3))


class Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.by * features


def randomize_statistics(backbone: nn.Module) -> None:
    """Batch normalisation that does something, as after training."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]


def trained(name: str) -> Any:
    backbone = official.resnet(name)
    backbone.fc = nn.Identity()
    return backbone


def exported(backbone: nn.Module, name: str, format: str, **kwargs: Any) -> Path:
    return export_backbone(backbone, name, kwargs, format, Path("out"), IMAGES)


@torch.no_grad()
def assert_same_features(ours: nn.Module, theirs: nn.Module, batch: torch.Tensor = BATCH) -> None:
    expected = ours.eval()(batch)
    assert (theirs.eval()(batch) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_timm(name: str) -> None:
    backbone = trained(name).to(memory_format=torch.channels_last)
    file = exported(backbone, name, "timm", zero_init_residual=True)
    assert file == Path("out/model.safetensors")
    assert_same_features(
        backbone, timm.create_model(name, checkpoint_path=str(file), num_classes=0)
    )
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


@since("timm", "1.0.31", "it reads safetensors from a folder")
def test_timm_reads_the_folder_as_one_of_its_hub() -> None:
    backbone = trained("resnet18")
    exported(backbone, "resnet18", "timm")
    model = timm.create_model("local-dir:out", pretrained=True)
    assert_same_features(backbone, model)
    data = resolve_model_data_config(model)
    found = [tuple(data[key]) for key in ("input_size", "mean", "std")]
    assert found == [(3, *IMAGES.size), IMAGES.mean, IMAGES.std]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision(name: str) -> None:
    backbone = trained(name)
    file = exported(backbone, name, "torchvision")
    assert file == Path(f"out/{name}.pth")
    theirs = getattr(torchvision.models, name)()
    keys = theirs.load_state_dict(torch.load(file, weights_only=True), strict=False)
    assert (keys.missing_keys, keys.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    theirs.fc = nn.Identity()
    assert_same_features(backbone, theirs)


@needs_onnx
@pytest.mark.parametrize("name,kwargs", [NARROW, pytest.param(*VIT, marks=pytest.mark.slow)])
def test_onnx(name: str, kwargs: dict[str, Any]) -> None:
    """As somebody else runs it: batches of other sizes than the exporter saw."""
    import onnxruntime

    cfg = OmegaConf.create(
        {"backbone": {"name": name, "kwargs": kwargs}, "data": {"dataset": "custom"}}
    )
    backbone, _ = build_backbone(cfg, "mixbt")
    randomize_statistics(backbone)
    images = ImageFormat((32, 32), IMAGES.mean, IMAGES.std)
    file = export_backbone(backbone, name, kwargs, "onnx", Path("out"), images)
    assert [path.name for path in Path("out").iterdir()] == ["backbone.onnx"]
    session = onnxruntime.InferenceSession(str(file))
    assert [one.name for one in session.get_inputs()] == ["images"]
    for size in (1, 3):
        batch = BATCH[:size, :, :32, :32]
        with torch.no_grad():
            expected = backbone(batch).numpy()
        (found,) = session.run(["features"], {"images": batch.numpy()})
        assert abs(found - expected).max() <= 1e-4 * abs(expected).max()
    said = OnnxBackbone(file).images
    statistics = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    assert said == {"crop_size": [32, 32], "dataset": "custom", **statistics}


@needs_onnx
def test_an_onnx_file_of_other_features_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(backbone: nn.Module, file: Path, images: ImageFormat) -> None:
        write_onnx(nn.Sequential(backbone, Scale(1.001)).eval(), file, images)

    monkeypatch.setattr(exporting, "write_onnx", wrong)
    with pytest.raises(ExportError, match="onnx's features differ"):
        exported(nn.Sequential(nn.Conv2d(3, 4, 3), Means()), "a_small_one", "onnx")
    assert list(Path("out").iterdir()) == []


def test_onnx_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"mixbt-plugin\[onnx\]"):
        exported(trained("resnet18"), "resnet18", "onnx")


@needs_onnx
def test_an_onnx_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(b"no graph")
    with pytest.raises(ConfigError, match="onnxruntime does not load it"):
        OnnxBackbone(file)
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "g", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    with pytest.raises(ConfigError, match="is no ONNX file of mixbt-export"):
        OnnxBackbone(file)


@pytest.mark.parametrize("format", ["timm", "torchvision"])
def test_what_was_exported_comes_back(format: str) -> None:
    backbone = trained("resnet18")
    file = exported(backbone, "resnet18", format)
    again = torchvision.models.resnet18()
    again.fc = nn.Identity()
    load_into(again, find_backbone(read_file(file), file), file)
    assert_same_features(backbone, again)


def test_a_vision_transformer_of_another_image_size() -> None:
    kwargs = {"img_size": 32, "patch_size": 8}
    cfg = OmegaConf.create(
        {"backbone": {"name": "vit_tiny", "kwargs": kwargs}, "data": {"dataset": "custom"}}
    )
    backbone, _ = build_backbone(cfg, "mixbt")
    images = ImageFormat((32, 32), IMAGES.mean, IMAGES.std)
    export_backbone(backbone, "vit_tiny", kwargs, "timm", Path("out"), images)
    config = json.loads(Path("out/config.json").read_text())
    assert config["architecture"] == "vit_tiny_patch16_224"
    assert config["model_args"] == kwargs
    theirs = timm.create_model(
        config["architecture"],
        checkpoint_path="out/model.safetensors",
        num_classes=0,
        **config["model_args"],
    )
    assert_same_features(backbone, theirs, BATCH[..., :32, :32])


def cifar_stem() -> Any:
    backbone = trained("resnet18")
    backbone.conv1 = nn.Conv2d(3, 64, 3, padding=2, bias=False)
    backbone.maxpool = nn.Identity()
    return backbone


@pytest.mark.parametrize(
    "backbone,name,format,message",
    [
        (
            cifar_stem,
            "resnet18",
            "timm",
            "gives it this one's stem: 3 x 3, padding=2 relu=true max_pool=f",
        ),
        (cifar_stem, "resnet18", "torchvision", "torchvision's resnet18 starts with 7 x 7"),
        (torchvision.models.resnet34, "resnet34", "timm", "only ResNet-18 and ResNet-50"),
        (nn.Identity, "narrow_resnet10", "timm", "'narrow_resnet10': timm has no network with"),
        (nn.Identity, "vit_tiny", "torchvision", "names this network's parameters otherwise"),
        (nn.Identity, "resnet18", "x", "format='x': expected one of timm, torchvision, onnx"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    backbone: Any, name: str, format: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        exported(backbone(), name, format)
    assert not Path("out").exists()


@pytest.mark.parametrize("format", ["timm", "torchvision"])
def test_features_that_differ_leave_the_file_that_was_there(format: str) -> None:
    file = exported(trained("resnet18"), "resnet18", format)
    before = file.read_bytes()
    other = trained("resnet18")
    other.layer2[0].relu = nn.GELU()
    with pytest.raises(ExportError, match="features differ from the backbone's by .*; nothing was"):
        exported(other, "resnet18", format)
    assert file.read_bytes() == before
    assert not list(Path("out").glob(".export*"))


def test_other_shapes_and_nans_are_refused() -> None:
    wider = torchvision.models.resnet18(width_per_group=64)
    wider.layer1[0].conv1 = nn.Conv2d(64, 64, 1, bias=False)
    wider.fc = nn.Identity()
    with pytest.raises(ExportError, match="timm's resnet18 does not load it"):
        exported(wider, "resnet18", "timm")
    broken = trained("resnet18")
    broken.conv1.weight.data[0] = float("nan")
    with pytest.raises(ExportError, match="by nan of the largest"):
        exported(broken, "resnet18", "timm")
    assert not any(Path("out").iterdir())


def test_a_classifier_is_not_exported() -> None:
    backbone = trained("resnet18")
    assert not any(key.startswith("fc") for key in load_file(exported(backbone, "r", "timm")))
