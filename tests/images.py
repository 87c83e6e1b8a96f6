"""Small folders of real images, cut from the photographs of scikit-image and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mixbt_plugin.data.sources import load_photo_patches

CLASSES = 6
TINY_CLASSES = 200


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


def tiny_imagenet(root: Path, per_class: int = 2) -> Path:
    """A folder as Tiny-ImageNet is downloaded: other images, 64 x 64 pixels, its files' names."""
    images, _ = load_photo_patches("train", True)
    classes = [f"n{10_000_000 + 37 * n}" for n in range(TINY_CLASSES)]
    pictures = (Image.fromarray(image).resize((64, 64)) for image in images)
    for name in classes:
        folder = root / "train" / name
        (folder / "images").mkdir(parents=True)
        boxes = [f"{name}_{n}.JPEG\t0\t10\t63\t58" for n in range(per_class)]
        (folder / f"{name}_boxes.txt").write_text("\n".join(boxes) + "\n")
        for n in range(per_class):
            next(pictures).save(folder / "images" / f"{name}_{n}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    order = np.random.default_rng(0).permutation(per_class * TINY_CLASSES)
    rows = []
    for n, drawn in enumerate(order):
        next(pictures).save(root / "val" / "images" / f"val_{n}.JPEG")
        rows.append(f"val_{n}.JPEG\t{classes[drawn % TINY_CLASSES]}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    return root
