"""Backbones as ONNX files: written, and run by onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixbt_plugin.checkpoints.image_format import ImageFormat
from mixbt_plugin.settings import ConfigError, MissingPackageError

SUFFIX = ".onnx"
IMAGES = "mixbt.images"
"""Key of the file's metadata under which the size and the statistics of its images stand."""


def require_onnx(*packages: str) -> None:
    """Raises MissingPackageError, with the command that helps, where a package lacks."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"ONNX files need {' and '.join(missing)}: pip install {' '.join(missing)}, "
            "or mixbt-plugin[onnx]."
        )


def write_onnx(backbone: nn.Module, file: Path, images: ImageFormat) -> None:
    """Writes a backbone as one ONNX file.

    Its input ``images`` is float32 (N, 3, H, W) with any N and the H and W of ``images.size``,
    normalised by ``images.mean`` and ``images.std``; its output ``features`` is (N, F).

    By PyTorch's exporter on `torch.export`: the older one, on TorchScript, is deprecated from
    PyTorch 2.9 on.

    Args:
        backbone: on the CPU, in evaluation mode.
        file: the path.
        images: what the backbone was trained on; kept in the file's metadata.

    Raises:
        ModuleNotFoundError: onnx, onnxscript or onnxruntime is not installed.
    """
    require_onnx("onnx", "onnxscript", "onnxruntime")
    onnx: Any = import_module("onnx")
    batch = torch.zeros(2, 3, *images.size)
    torch.onnx.export(
        backbone,
        (batch,),
        str(file),
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    model = onnx.load(file)
    model.metadata_props.add(
        key=IMAGES,
        value=json.dumps(
            {
                "crop_size": list(images.size),
                "mean": list(images.mean),
                "std": list(images.std),
                "dataset": images.dataset,
            }
        ),
    )
    onnx.save(model, file)


class OnnxBackbone(nn.Module):
    """A backbone in an ONNX file, run by onnxruntime on the CPU.

    Args:
        file: that `write_onnx` wrote.

    Attributes:
        images: ``crop_size``, ``mean`` and ``std`` of the images that it takes, and ``dataset``,
            whose validation images are brought to it as these are; older files lack the last.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: the file is not one of `write_onnx`.
    """

    def __init__(self, file: str | Path) -> None:
        super().__init__()
        require_onnx("onnxruntime")
        runtime: Any = import_module("onnxruntime")
        try:
            self._session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes, of no common base
            raise ConfigError(f"{file}: onnxruntime does not load it: {error}") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if IMAGES not in metadata:
            raise ConfigError(f"{file}: is no ONNX file of mixbt-export, format=onnx.")
        self.images: dict[str, Any] = json.loads(metadata[IMAGES])
        self.run: Callable[..., Any] = self._session.run

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, F) of normalised images (N, 3, H, W)."""
        (features,) = self.run(["features"], {"images": images.cpu().numpy()})
        return torch.from_numpy(features)
