"""Views a second, in turns: ``python -m benchmarks.views``.

``--what core``: milliseconds a view on one core, in one process, of solo-learn's pipelines on PIL
images (the host's: solo-learn's own where it is installed, else the stand-in's same calls), of
torchvision's v2 on uint8 tensors, image by image, of kornia on batches, where it is installed, and
of ``data.augment: batch``. ``--what loader``: views a second of whole loaders with ``--workers``,
of which ``--plot`` draws a picture.

Images are photographs of scikit-image, of the views' size in an array; for 224 px they are JPEG
files of 500 x 375.
"""

from __future__ import annotations

import argparse
import gc
import io
import random
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

from benchmarks.interleaved import interleave, machine, ratio, table
from mixbt_plugin.apps.seeding import EpochBatchSampler, EpochSampler
from mixbt_plugin.data import BatchViews, as_tensor, batch_augmentation, pretrain_transform
from mixbt_plugin.data.datasets import WithIndex
from mixbt_plugin.data.memory import ArrayImages
from mixbt_plugin.data.sources import LabelledImages, photographs
from mixbt_plugin.host import HOST

FILE_SIZE = (500, 375)
BLURRED = (96, 224)
"""Sizes at which half of the views are blurred, as in solo-learn's pipelines for large images."""


def config(size: int, views: int) -> DictConfig:
    """solo-learn's symmetric pipeline for CIFAR at a size, from 96 px on with its blur."""
    none = {"prob": 0.0}
    pipeline = {
        "rrc": {"enabled": True, "crop_min_scale": 0.08, "crop_max_scale": 1.0},
        "color_jitter": {
            **{"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
        },
        "grayscale": {"prob": 0.2},
        "gaussian_blur": {"prob": 0.5 if size in BLURRED else 0.0},
        "solarization": none,
        "equalization": none,
        "horizontal_flip": {"prob": 0.5},
        "crop_size": size,
        "num_crops": views,
    }
    return OmegaConf.create({"data": {"dataset": "cifar10"}, "augmentations": [pipeline]})


class JpegImages(Dataset[Any]):
    """JPEG files held as bytes, decoded at each access, as (image, class)."""

    def __init__(self, files: list[bytes], transform: Callable[[Any], Any]) -> None:
        self.files = files
        self.transform = transform

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.open(io.BytesIO(self.files[index])).convert("RGB")), 0

    def __len__(self) -> int:
        return len(self.files)


def pictures(size: tuple[int, int], count: int) -> Iterator[Image.Image]:
    """Random parts of the photographs."""
    photos = [Image.fromarray(photo) for photo in photographs(color=True)]
    draw = random.Random(0)
    for n in range(count):
        photo = photos[n % len(photos)]
        side = draw.randint(min(photo.size) // 3, min(photo.size))
        left, top = (draw.randint(0, length - side) for length in photo.size)
        yield photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + side, top + side))


def data_set(size: int, count: int, transform: Callable[[Any], Any]) -> Any:
    """Images that fill views of ``size``."""
    if size < 224:
        array = np.stack([np.asarray(picture) for picture in pictures((size, size), count)])
        return WithIndex(ArrayImages(LabelledImages(array, np.zeros(count, int)), transform))
    files = []
    for picture in pictures(FILE_SIZE, count):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return WithIndex(JpegImages(files, transform))


def v2_pipeline(cfg: DictConfig) -> Callable[[Any], Any]:
    """The same distributions by torchvision.transforms.v2, on uint8 tensors."""
    entry = cfg.augmentations[0]
    jitter = entry.color_jitter
    blur = v2.GaussianBlur(2 * (entry.crop_size // 20) + 1, (0.1, 2.0))
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                entry.crop_size, (0.08, 1.0), interpolation=InterpolationMode.BICUBIC
            ),
            v2.RandomApply(
                [v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)],
                jitter.prob,
            ),
            v2.RandomGrayscale(entry.grayscale.prob),
            v2.RandomApply([blur], entry.gaussian_blur.prob),
            v2.RandomHorizontalFlip(entry.horizontal_flip.prob),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]),
        ]
    )


def kornia_pipeline(cfg: DictConfig) -> Any:
    """Nearly the same distributions by kornia, on batches, each image with its own parameters."""
    import kornia.augmentation as K

    entry = cfg.augmentations[0]
    jitter, size = entry.color_jitter, entry.crop_size
    return K.AugmentationSequential(
        K.RandomResizedCrop((size, size), (0.08, 1.0), resample="bicubic"),
        K.ColorJitter(
            jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, p=jitter.prob
        ),
        K.RandomGrayscale(p=entry.grayscale.prob),
        K.RandomGaussianBlur((9, 9), (0.1, 2.0), p=entry.gaussian_blur.prob),
        K.RandomHorizontalFlip(p=entry.horizontal_flip.prob),
        K.Normalize([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]),
    )


def on_one_core(size: int, views: int, images: int) -> dict[str, Callable[[], object]]:
    """Alternatives that make all views of a batch, the images of 224 px decoded before."""
    cfg = config(size, views)
    decoded = data_set(size, images, lambda image: image)
    pil = [decoded[n][1] for n in range(images)]
    tensors = [as_tensor(image) for image in pil]
    augmentation, pipeline = batch_augmentation(cfg), pretrain_transform(cfg)
    by_v2 = v2_pipeline(cfg)
    together = torch.stack(tensors) if size < 224 else None

    def batch() -> object:
        drawn = augmentation.draw([t.shape[-2:] for t in tensors], np.random.default_rng(0))
        source = augmentation.crop(tensors, drawn) if together is None else together
        return augmentation(source, drawn)

    alternatives: dict[str, Callable[[], object]] = {
        "PIL": lambda: [pipeline(image) for image in pil],
        "v2": lambda: [[by_v2(tensor) for _ in range(views)] for tensor in tensors],
        "batch": batch,
    }
    if find_spec("kornia") is not None and together is not None:
        by_kornia = kornia_pipeline(cfg)
        alternatives["kornia"] = lambda: [by_kornia(together / 255) for _ in range(views)]
    return alternatives


def loaders(size: int, views: int, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """An epoch of solo-learn's loader, and one of ours."""
    cfg = config(size, views)
    batch = args.batch if size < 224 else args.batch // 4
    count = args.images * batch
    common: dict[str, Any] = {"num_workers": args.workers, "persistent_workers": args.workers > 0}
    theirs: DataLoader[Any] = DataLoader(
        data_set(size, count, pretrain_transform(cfg)),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        **common,
    )
    batches = BatchViews(data_set(size, count, as_tensor), batch_augmentation(cfg), seed=0)
    order = EpochSampler(count, 0, lambda: 0)
    ours: DataLoader[Any] = DataLoader(
        batches,
        sampler=EpochBatchSampler(order, batch),
        batch_size=None,
        collate_fn=as_it_is,
        **common,
    )

    def epoch(loader: DataLoader[Any]) -> None:
        for _ in loader:
            pass

    return {"PIL": lambda: epoch(theirs), "batch": lambda: epoch(ours)}


def as_it_is(batch: Any) -> Any:
    """A batch that needs no collation."""
    return batch


def measure_cores(args: argparse.Namespace) -> None:
    """Prints milliseconds a view."""
    torch.set_num_threads(1)
    names = ["PIL", "v2", "kornia", "batch"]
    rows = []
    for size in args.sizes:
        for views in args.views:
            images = max(8, int(args.images * 32 / size))
            times = interleave(on_one_core(size, views, images), rounds=args.rounds)
            cells = [
                f"{1000 * median(times[name]) / images / views:.3f}" if name in times else "–"
                for name in names
            ]
            rows.append([size, views, *cells, f"{ratio(times['PIL'], times['batch']):.1f}"])
    print(table(["px", "views", *(f"{name}, ms" for name in names), "PIL / batch"], rows))


def measure_loaders(args: argparse.Namespace) -> None:
    """Prints views a second, and draws them."""
    rows: list[list[object]] = []
    curves: dict[tuple[int, str], list[float]] = {}
    for size in args.sizes:
        for views in args.views:
            times = interleave(loaders(size, views, args), rounds=args.rounds)
            made = args.images * (args.batch if size < 224 else args.batch // 4) * views
            rates = {name: made / median(seconds) for name, seconds in times.items()}
            for name, rate in rates.items():
                curves.setdefault((size, name), []).append(rate)
            cells = [f"{rates[name]:,.0f}" for name in ("PIL", "batch")]
            rows.append([size, views, *cells, f"{ratio(times['PIL'], times['batch']):.1f}"])
            gc.collect()  # the loaders' processes end
    print(table(["px", "views", "PIL, views/s", "batch, views/s", "ratio"], rows))
    if args.plot:
        draw(curves, args)


def draw(curves: dict[tuple[int, str], list[float]], args: argparse.Namespace) -> None:
    """Views a second against the number of views, as a picture."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    colors = dict(zip(args.sizes, ("C0", "C1", "C2", "C3")))
    for (size, name), rates in curves.items():
        style = "o-" if name == "batch" else "s--"
        axes.plot(args.views, rates, style, color=colors[size], label=f"{size} px, {name}")
    axes.set(xlabel="views of an image", ylabel="views a second", yscale="log", xticks=args.views)
    axes.set_title(f"Loader with {args.workers} processes", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(args.plot, dpi=120)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=["core", "loader"], default="loader")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 64, 96, 224])
    parser.add_argument("--views", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64, help="images a batch of a loader")
    parser.add_argument(
        "--images", type=int, default=8, help="loader: batches an epoch; core: images at 32 px"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", help="file of the picture")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(machine("torchvision", "pillow", "kornia"))
    print(f"host {HOST}")
    {"core": measure_cores, "loader": measure_loaders}[args.what](args)


if __name__ == "__main__":
    main()
