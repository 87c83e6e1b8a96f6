"""What becomes of an image file's pixels: every mode keeps its levels, or is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from mixbt_plugin.data import UnreadableImageError, pretrain_dataset
from mixbt_plugin.data.reading import read_image
from tests.images import image_folder
from tests.versions import since

LEVELS = 64
GREY8 = np.tile(np.arange(LEVELS, dtype=np.uint8) * 4, (4, 1))
GREY16 = GREY8.astype(np.uint16) * 257
FLOAT = (GREY8 / np.float32(255)).astype(np.float32)


def palette() -> Image.Image:
    image = Image.fromarray((GREY8 // 4).astype(np.uint8), "P")
    image.putpalette([value for level in range(LEVELS) for value in (4 * level,) * 3])
    return image


def plain_tiff(values: NDArray[Any], order: Any = "big", bits: int = 16, white: int = 1) -> bytes:
    """A TIFF that Pillow does not write: its byte order, bits a value, and what ``white`` is.

    Args:
        values: uint16 (4, LEVELS).
        order: ``big`` or ``little``.
        bits: that the file says it has.
        white: 1 where the largest value is white, 0 where it is black.
    """
    data = values.astype(">u2" if order == "big" else "<u2").tobytes()
    entries = [  # tag, type (3: 16 bits, 4: 32 bits), value
        *((256, 4, LEVELS), (257, 4, 4), (258, 3, bits), (259, 3, 1), (262, 3, white)),
        *((273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 4, 4), (279, 4, len(data))),
    ]
    rows = b"".join(
        tag.to_bytes(2, order)
        + kind.to_bytes(2, order)
        + (1).to_bytes(4, order)
        + value.to_bytes(2 if kind == 3 else 4, order).ljust(4, b"\0")
        for tag, kind, value in entries
    )
    magic = b"MM\0\x2a" if order == "big" else b"II\x2a\0"
    return magic + (8).to_bytes(4, order) + len(entries).to_bytes(2, order) + rows + bytes(4) + data


def as_grey(mode: str) -> Callable[[], Image.Image]:
    return lambda: Image.fromarray(GREY8).convert("RGB").convert(mode)


RAMPS: dict[str, Any] = {
    "L.png": as_grey("L"),
    "LA.png": as_grey("LA"),
    "P.png": palette,
    "RGB.png": as_grey("RGB"),
    "RGBA.png": as_grey("RGBA"),
    "CMYK.tiff": as_grey("CMYK"),
    "YCbCr.tiff": as_grey("YCbCr"),
    "16-bit.png": lambda: Image.fromarray(GREY16),
    "16-bit.tiff": lambda: Image.fromarray(GREY16),
    "16-bit-big-endian.tiff": lambda: plain_tiff(GREY16),
    "16-bit.pgm": lambda: b"P5 64 4 65535\n" + GREY16.astype(">u2").tobytes(),
    "float.tiff": lambda: Image.fromarray(FLOAT),
}


def save(image: Image.Image | bytes, path: Path) -> Path:
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        image.save(path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=since("pillow", "13", "it reads such a file, which it has written itself")
            if name == "YCbCr.tiff"
            else (),
        )
        for name in RAMPS
    ],
)
def test_a_ramp_keeps_its_levels(name: str, tmp_path: Path) -> None:
    path = save(RAMPS[name](), tmp_path / name)
    read = np.asarray(read_image(path, path))
    assert read.shape == (4, LEVELS, 3)
    expected = np.repeat(GREY8[..., None], 3, axis=-1).astype(int)
    # Pillow's conversion from YCbCr rounds some levels to their neighbours.
    np.testing.assert_allclose(read, expected, atol=int(name.startswith("YCbCr")))
    assert len(np.unique(read)) == LEVELS


def test_16_bits_and_floats_are_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 385, 386, 65535]])
    for image in (values.astype(np.uint16), (values / 65535).astype(np.float32)):
        path = save(Image.fromarray(image), tmp_path / "image.tiff")
        assert np.asarray(read_image(path, path))[0, :, 0].tolist() == [0, 0, 1, 1, 2, 255]


def test_black_and_white(tmp_path: Path) -> None:
    path = save(Image.fromarray(GREY8).point(lambda level: level > 99, "1"), tmp_path / "1.png")
    assert np.array_equal(np.asarray(read_image(path, path))[..., 0], (GREY8 > 99) * np.uint8(255))


def test_transparency_and_rotation_are_left_out_as_in_solo_learn(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([GREY8, GREY8, GREY8, 255 - GREY8]))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "image.png", exif=exif)
    with (tmp_path / "image.png").open("rb") as file:
        theirs = np.asarray(Image.open(file).convert("RGB"))  # torchvision's pil_loader
    assert np.array_equal(np.asarray(read_image(tmp_path / "image.png", "image")), theirs)


REFUSED: dict[str, tuple[Image.Image | bytes, str]] = {
    "32-bit integers": (Image.fromarray(GREY16.astype(np.int32)), "mode 'I'.* 16 bits"),
    "floats of 0 to 255": (Image.fromarray(FLOAT * 255), r"floats from 0 to 252.*in \[0, 1\]"),
    "negative floats": (Image.fromarray(FLOAT - 0.5), r"floats from -0.5 to .*in \[0, 1\]"),
    "NaN": (Image.fromarray(np.where(FLOAT > 0.5, np.nan, FLOAT)), r"nan.*in \[0, 1\]"),
    "LAB": (Image.merge("LAB", [Image.fromarray(GREY8)] * 3), "mode 'LAB'"),
    "12 bits": (plain_tiff(GREY16, "little", bits=12), "12 bits.*expected 16"),
    "0 is white": (plain_tiff(GREY16, "little", white=0), "0 is white.*expected black"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_to_be_read_right_is_refused(name: str, tmp_path: Path) -> None:
    image, message = REFUSED[name]
    path = save(image, tmp_path / "image.tiff")
    with pytest.raises(UnreadableImageError, match=rf"^scan\.tiff: .*{message}"):
        read_image(path, "scan.tiff")


def images_of(folder: Path) -> DictConfig:
    return OmegaConf.create({"data": {"dataset": "custom", "train_path": str(folder)}})


def test_a_refused_mode_is_found_before_training(tmp_path: Path) -> None:
    root = image_folder(tmp_path) / "train"
    for path in root.glob("class0/*.png"):
        Image.fromarray(GREY16.astype(np.int32)).save(path.with_suffix(".tiff"))
        path.unlink()
    with pytest.raises(ValueError, match=r"images that were tried.*class0/0.tiff: .*mode 'I'"):
        pretrain_dataset(images_of(root), np.asarray)


def test_images_of_one_colour_are_warned_of(tmp_path: Path) -> None:
    root = image_folder(tmp_path) / "train"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrain_dataset(images_of(root), np.asarray)
    Image.new("RGB", (32, 32), (7, 90, 3)).save(root / "class1" / "1.png")
    with pytest.warns(UserWarning, match=r"1 of 16 images .* one colour: .*class1/1.png"):
        pretrain_dataset(images_of(root), np.asarray)
