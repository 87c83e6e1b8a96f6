"""Weights in and out: whose checkpoint a file is, the backbone in it, and files for others."""

from mixbt_plugin.checkpoints.exporting import (
    FORMATS,
    ExportError,
    export_backbone,
    exported_files,
)
from mixbt_plugin.checkpoints.image_format import ImageFormat
from mixbt_plugin.checkpoints.layouts import BackboneWeights, find_backbone, load_into
from mixbt_plugin.checkpoints.onnx_files import OnnxBackbone
from mixbt_plugin.checkpoints.reading import (
    PARTIAL,
    put_in_place,
    read_checkpoint,
    read_file,
    written_whole,
)
from mixbt_plugin.checkpoints.stems import Stem, stem_of

__all__ = [
    "FORMATS",
    "PARTIAL",
    "BackboneWeights",
    "ExportError",
    "ImageFormat",
    "OnnxBackbone",
    "Stem",
    "export_backbone",
    "exported_files",
    "find_backbone",
    "load_into",
    "put_in_place",
    "read_checkpoint",
    "read_file",
    "stem_of",
    "written_whole",
]
