"""Small folders of real images, cut from the photographs of scikit-image and scikit-learn."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from mixbt_plugin.data.sources import load_photo_patches

CLASSES = 6


def image_folder(root: Path, per_class: int = 8) -> Path:
    """``root/{train,val}/<class>/<n>.png``, 32 x 32 pixels, `CLASSES` classes."""
    for split, folder in (("train", "train"), ("test", "val")):
        images, targets = load_photo_patches(split, True)  # type: ignore[arg-type]
        for label in range(CLASSES):
            target = root / folder / f"class{label}"
            target.mkdir(parents=True)
            for n, image in enumerate(images[targets == label][:per_class]):
                Image.fromarray(image).save(target / f"{n}.png")
    return root
