"""Backbones as files that others load, each tried out before it is put in place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm.models
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from mixbt_plugin.checkpoints.image_format import ImageFormat
from mixbt_plugin.checkpoints.onnx_files import SUFFIX, OnnxBackbone, write_onnx
from mixbt_plugin.checkpoints.reading import put_in_place, read_file
from mixbt_plugin.checkpoints.stems import Stem, stem_of
from mixbt_plugin.settings import ConfigError

RESNETS: dict[tuple[type[nn.Module], tuple[int, ...]], str] = {
    (BasicBlock, (2, 2, 2, 2)): "resnet18",
    (Bottleneck, (3, 4, 6, 3)): "resnet50",
}
TIMM_SUFFIX = {"vit": "_patch16_224", "swin": "_patch4_window7_224", "convnext": ""}
STANDARD_STEM = Stem(padding=3, relu=True, max_pool=True)
TOLERANCE = {"timm": 1e-5, "torchvision": 1e-5, "onnx": 1e-4}
"""Largest difference of a feature that is let pass, relative to the largest feature."""


class ExportError(ValueError):
    """The backbone cannot be exported in this format."""


def export_backbone(
    backbone: nn.Module,
    name: str,
    kwargs: Mapping[str, Any],
    format: str,
    folder: Path,
    images: ImageFormat,
) -> Path:
    """Writes a backbone's weights for another library, and compares what that makes of the file.

    The file is written under another name, loaded by the other library and moved to its place only
    when the features of a batch agree; a file that was there before stays where they do not.

    Args:
        backbone: without a classification layer.
        name: ``backbone.name`` of its config.
        kwargs: ``backbone.kwargs``.
        format: ``timm`` (``model.safetensors``, and ``config.json`` as on timm's hub),
            ``torchvision`` (the state dict ``<architecture>.pth``, as Barlow Twins' resnet50.pth)
            or ``onnx`` (``backbone.onnx``, of any backbone, run by onnxruntime).
        folder: where the files are put.
        images: what the backbone was trained on.

    Returns:
        The file with the weights.

    Raises:
        ExportError: the library has no such architecture, or its features differ.
        ValueError: ``format`` is not known.
        ModuleNotFoundError: ``onnx`` needs a package that is not installed.
    """
    if format not in FORMATS:
        raise ConfigError(f"format={format!r}: expected one of {', '.join(FORMATS)}.")
    architecture = "backbone" if format == "onnx" else _counterpart(backbone, name, format)
    # torchvision's kwargs are not timm's; what they change, the comparison of features shows.
    kwargs = {} if architecture.startswith("resnet") else dict(kwargs)
    write, load = FORMATS[format]
    backbone.eval().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        files = write(Path(temporary), backbone, architecture, kwargs, images)
        try:
            theirs = load(architecture, kwargs, files[0])
        except RuntimeError as error:
            raise ExportError(
                f"backbone.name={name!r}: {format}'s {architecture} does not load it: {error}"
            ) from error
        _require_equal_features(backbone, theirs, images, format)
        for file in files:
            put_in_place(file, folder / file.name)
    return folder / files[0].name


def exported_files(format: str, folder: Path) -> list[Path]:
    """Files in a folder that an export in this format may replace."""
    names = {"timm": ["model.safetensors", "config.json"], "onnx": [f"backbone{SUFFIX}"]}
    torchvision_names = [f"{architecture}.pth" for architecture in RESNETS.values()]
    paths = [folder / name for name in names.get(format, torchvision_names)]
    return [path for path in paths if path.is_file()]


def _counterpart(backbone: nn.Module, name: str, format: str) -> str:
    """The other library's name of the architecture."""
    if isinstance(backbone, torchvision.models.ResNet):
        stages = (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
        blocks = tuple(len(stage) for stage in stages)
        architecture = RESNETS.get((type(stages[0][0]), blocks))
        if architecture is None:
            raise ExportError(f"backbone.name={name!r}: only ResNet-18 and ResNet-50 are exported.")
        size = backbone.conv1.kernel_size[0]
        stem = stem_of(backbone)
        if size != 7 or stem != STANDARD_STEM:
            raise ExportError(
                f"backbone.name={name!r}: {format}'s {architecture} starts with 7 x 7, "
                f"{STANDARD_STEM}, and none of its arguments gives it this one's stem: "
                f"{size} x {size}, {stem}."
            )
        return architecture
    family = name.partition("_")[0]
    if family not in TIMM_SUFFIX:
        raise ExportError(f"backbone.name={name!r}: {format} has no network with these parameters.")
    if format == "torchvision":
        raise ExportError(
            f"backbone.name={name!r}: torchvision names this network's parameters otherwise; take "
            "format=timm."
        )
    return name + TIMM_SUFFIX[family]


def _state(backbone: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().contiguous() for key, value in backbone.state_dict().items()}


def _write_timm(
    folder: Path,
    backbone: nn.Module,
    architecture: str,
    kwargs: Mapping[str, Any],
    images: ImageFormat,
) -> list[Path]:
    weights, config = folder / "model.safetensors", folder / "config.json"
    save_file(_state(backbone), weights, metadata={"format": "pt"})
    description = {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": dict(kwargs),
        "pretrained_cfg": {
            "num_classes": 0,
            "input_size": [3, *images.size],
            "mean": list(images.mean),
            "std": list(images.std),
            "interpolation": "bilinear",
        },
    }
    config.write_text(json.dumps(description, indent=2) + "\n")
    weights.chmod(config.stat().st_mode)  # safetensors lets the owner alone read its files
    return [weights, config]


def _load_timm(architecture: str, kwargs: Mapping[str, Any], file: Path) -> nn.Module:
    # Not by timm.create_model: where solo-learn was imported, its constructors replace timm's.
    model: nn.Module = getattr(timm.models, architecture)(num_classes=0, **kwargs)
    timm.models.load_checkpoint(model, str(file))
    return model


def _write_torchvision(folder: Path, backbone: nn.Module, architecture: str, *_: Any) -> list[Path]:
    weights = folder / f"{architecture}.pth"
    torch.save(_state(backbone), weights)
    return [weights]


def _load_torchvision(architecture: str, kwargs: Mapping[str, Any], file: Path) -> nn.Module:
    model: nn.Module = getattr(torchvision.models, architecture)()
    keys = model.load_state_dict(read_file(file), strict=False)
    if keys.unexpected_keys or set(keys.missing_keys) != {"fc.weight", "fc.bias"}:
        raise RuntimeError(f"torchvision's {architecture} has other parameters: {keys}")
    model.fc = nn.Identity()
    return model


def _write_onnx(
    folder: Path,
    backbone: nn.Module,
    architecture: str,
    kwargs: Mapping[str, Any],
    images: ImageFormat,
) -> list[Path]:
    file = folder / f"{architecture}{SUFFIX}"
    write_onnx(backbone, file, images)
    return [file]


def _load_onnx(architecture: str, kwargs: Mapping[str, Any], file: Path) -> nn.Module:
    return OnnxBackbone(file)


FORMATS: dict[str, tuple[Callable[..., list[Path]], Callable[..., nn.Module]]] = {
    "timm": (_write_timm, _load_timm),
    "torchvision": (_write_torchvision, _load_torchvision),
    "onnx": (_write_onnx, _load_onnx),
}


@torch.no_grad()
def _require_equal_features(
    ours: nn.Module, theirs: nn.Module, images: ImageFormat, format: str
) -> None:
    batch = torch.randn(4, 3, *images.size, generator=torch.Generator().manual_seed(0))
    expected, found = ours(batch), theirs.eval()(batch)
    difference = (found - expected).abs().max() / expected.abs().max()
    if not difference <= TOLERANCE[format]:  # NaN is refused as well
        raise ExportError(
            f"{format}'s features differ from the backbone's by {difference:.1e} of the largest; "
            "nothing was written."
        )
