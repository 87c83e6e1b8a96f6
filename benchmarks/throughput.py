"""Images a second of pre-training, end to end, beside lightly's and solo-learn's own scripts.

``python -m benchmarks.throughput [SOLO_LEARN_CHECKOUT]``. Each alternative is a process of its own
that trains Barlow Twins, ResNet-18, on a folder of JPEG files of 32 px, once for one epoch and once
for several: the difference is the time of epochs alone. In turns, `--rounds` times. One of them has
no loader, no classifier and no logging, and trains on a batch in memory: what they could reach.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.interleaved import machine, ratio, table

ROOT = Path(__file__).parents[1]
CONFIG = ("--config-path", str(ROOT / "configs" / "pretrain" / "custom"), "--config-name")
LIGHTLY = """
import sys
import torch, torchvision
from lightly.data import LightlyDataset
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules import BarlowTwinsProjectionHead
from lightly.transforms import BYOLTransform
from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform

folder, epochs, batch, dim, workers, bf16 = sys.argv[1], *map(int, sys.argv[2:])
backbone = torch.nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
model = torch.nn.Sequential(backbone, torch.nn.Flatten(), BarlowTwinsProjectionHead(512, dim, dim))
views = BYOLTransform(BYOLView1Transform(input_size=32), BYOLView2Transform(input_size=32))
data = LightlyDataset(folder, transform=views)
loader = torch.utils.data.DataLoader(
    data, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
)
loss, optimizer = BarlowTwinsLoss(), torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(epochs):
    for (x_a, x_b), *_ in loader:
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(bf16)):
            z_a, z_b = model(x_a), model(x_b)
        optimizer.zero_grad()
        loss(z_a.float(), z_b.float()).backward()
        optimizer.step()
"""

ALONE = """
import sys
import torch, torchvision
from mixbt_plugin.losses import BarlowTwinsLoss

images, epochs, batch, dim, bf16 = map(int, sys.argv[1:])
backbone = torchvision.models.resnet18()
backbone.fc = torch.nn.Identity()
widths = [512, dim, dim]
hidden = [
    torch.nn.Sequential(torch.nn.Linear(a, b), torch.nn.BatchNorm1d(b), torch.nn.ReLU())
    for a, b in zip(widths, widths[1:])
]
model = torch.nn.Sequential(backbone, *hidden, torch.nn.Linear(dim, dim))
loss, optimizer = BarlowTwinsLoss(), torch.optim.SGD(model.parameters(), lr=0.01)
x_a, x_b = torch.randn(2, batch, 3, 32, 32)
for _ in range(epochs * (images // batch)):
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(bf16)):
        z_a, z_b = model(x_a), model(x_b)
    optimizer.zero_grad()
    loss(z_a.float(), z_b.float()).backward()
    optimizer.step()
"""


def write_images(folder: Path, count: int) -> None:
    """JPEG files of 32 px in two class folders."""
    generator = np.random.default_rng(0)
    for n in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8))
        path = folder / str(n % 2) / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(path, quality=90)


class Way(NamedTuple):
    """A command in which ``EPOCHS`` stands for their number, with what is on its import path."""

    words: list[str]
    host: str = "embedded"
    path: tuple[Path, ...] = (ROOT,)


def alternatives(args: argparse.Namespace, images: Path) -> dict[str, Way]:
    """What is there to be timed."""
    bf16 = args.precision != "32"
    words = [
        *(f"data.train_path={images}", "data.val_path=null", f"data.num_workers={args.workers}"),
        *("view.crop_size=32", f"optimizer.batch_size={args.batch}", "max_epochs=EPOCHS"),
        *(f"method_kwargs.proj_hidden_dim={args.dim}", f"method_kwargs.proj_output_dim={args.dim}"),
        *("accelerator=cpu", "sync_batchnorm=False", f"precision={args.precision}"),
        *("checkpoint.enabled=False", "devices='1'", "scheduler.warmup_epochs=0"),
        *("log_every_n_steps=50", f"backbone.name={args.backbone}"),
    ]
    quiet = ["enable_progress_bar=False", "enable_model_summary=False"]
    ours = [sys.executable, "-m", "mixbt_plugin.apps.pretrain", *CONFIG]
    found = {
        f"{name}, data.augment={augment}": Way(
            [*ours, name, *words, *quiet, f"data.augment={augment}"]
        )
        for name, augment in (
            *(("barlow_twins", "image"), ("barlow_twins", "batch")),
            *(("mixbt", "image"), ("mixbt", "batch")),
        )
    }
    alone = (args.images, "EPOCHS", args.batch, args.dim, int(bf16))
    found["backbone, projector and loss alone"] = Way(
        [sys.executable, "-c", ALONE, *map(str, alone)]
    )
    if find_spec("lightly"):
        numbers = map(str, (args.batch, args.dim, args.workers, int(bf16)))
        found["lightly"] = Way([sys.executable, "-c", LIGHTLY, str(images), "EPOCHS", *numbers])
    if args.checkout:
        checkout = Path(args.checkout).resolve()
        theirs = [sys.executable, str(checkout / "main_pretrain.py"), *CONFIG]
        for name in ("barlow_twins", "mixbt"):
            found[f"solo-learn's script, {name}"] = Way(
                [*theirs, name, *words], "solo-learn", (ROOT, checkout)
            )
    return found


def seconds(way: Way, epochs: int) -> float:
    """What a process of so many epochs takes."""
    path = os.pathsep.join(map(str, way.path))
    environment = {**os.environ, "PYTHONPATH": path, "MIXBT_HOST": way.host}
    words = [word.replace("EPOCHS", str(epochs)) for word in way.words]
    with TemporaryDirectory() as folder:
        before = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{done.stderr[-3000:]}")
    return time.perf_counter() - before


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", nargs="?", help="of solo-learn")
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--epochs", type=int, default=3, help="of the longer process")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--precision", default="32", help="bf16-mixed where the CPU has it")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    args = parsed(arguments)
    with TemporaryDirectory() as folder:
        write_images(Path(folder), args.images)
        ways = alternatives(args, Path(folder))
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                one, several = (seconds(way, n) for n in (1, args.epochs))
                times[name].append((several - one) / (args.epochs - 1))
    baseline = next(iter(times.values()))
    used = args.images // args.batch * args.batch
    rows = [
        [name, f"{used / median(found):.0f}", f"{ratio(baseline, found):.2f}"]
        for name, found in times.items()
    ]
    print(f"{machine()}. {args.backbone}, {used} images of 32 px, batch {args.batch},")
    print(f"D = {args.dim}, precision {args.precision}, {args.rounds} rounds.\n")
    print(table(("", "images a second", "of the first"), rows))


if __name__ == "__main__":
    main()
