"""What a training takes on a GPU, in at most eight minutes: ``python -m benchmarks.gpu``.

Losses with peak memory, whole steps, and images a second with ``data.augment=batch`` from an array
in memory, with the share of time that the GPU waits for them. ``--device cpu --small`` tries it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import dense, views
from benchmarks.interleaved import interleave, machine, peak_memory, ratio, row, table
from benchmarks.loss import OBJECTIVES, step
from mixbt_plugin.apps.seeding import EpochBatchSampler, EpochSampler
from mixbt_plugin.apps.training import set_up
from mixbt_plugin.data import as_tensor, batch_augmentation
from mixbt_plugin.data.batches import BatchViews
from mixbt_plugin.data.datasets import WithIndex
from mixbt_plugin.data.memory import ArrayImages
from mixbt_plugin.data.sources import LabelledImages
from mixbt_plugin.host import HOST, METHODS
from mixbt_plugin.registry import register

LOSSES = ("mixbt", "barlow_twins", "multiaug_vicreg")
MIB = 2**20


def solo_learn(views: Sequence[Tensor], **_: Tensor) -> Tensor:
    """Barlow Twins as solo-learn computes it: a mask picks the D (D - 1) entries to be weighted."""
    a, b = map(dense.batch_norm, views)
    eye = torch.eye(a.size(1), device=a.device)
    squares = (a.T @ b / len(a) - eye).square()
    squares[~eye.bool()] *= dense.LAMB
    return squares.sum()


def peak(call: Callable[[], object], device: str) -> float:
    """Most MiB that a call holds beyond what was there before."""
    if device == "cpu":
        return peak_memory(call) / MIB
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def begin(title: str, header: Sequence[str]) -> None:
    """Heading and first lines of a table, whose rows are printed as they are found."""
    print(f"\n## {title}\n\n{table(header, [])}", flush=True)


def add(*cells: object) -> None:
    """One more line of the table."""
    print(row(*cells), flush=True)


def losses(args: argparse.Namespace) -> None:
    """Forward and backward: ours, with D x D matrices, and solo-learn's way."""
    header = ("loss", "N", "D", "ours, ms", "MiB", "official, ms", "MiB", "solo-learn, ms", "MiB")
    begin("Losses, forward and backward", (*header, "official / ours"))
    for name, (n, d) in product(LOSSES, args.sizes):
        objective = OBJECTIVES[name]
        z = [
            torch.randn(n, d, device=args.device, requires_grad=True)
            for _ in range(objective.views)
        ]
        perm = torch.randperm(n, device=args.device)
        ways: dict[str, Callable[[], object]] = {
            "ours": partial(step, objective.ours, z, perm=perm),
            "official": partial(step, objective.official, z, perm=perm),
        }
        if name == "barlow_twins":
            ways["solo-learn"] = partial(step, solo_learn, z)
        times = interleave(ways, rounds=args.rounds, device=args.device, warm=True)
        cells: list[object] = []
        for way in ("ours", "official", "solo-learn"):
            there = way in ways
            cells += [
                f"{1e3 * median(times[way]):.2f}" if there else "–",
                f"{peak(ways[way], args.device):.0f}" if there else "–",
            ]
        add(name, n, d, *cells, f"{ratio(times['official'], times['ours']):.1f}")


def method(name: str, args: argparse.Namespace, backbone: str, d: int, **changes: Any) -> Any:
    """A method on the device, as the commands set it up."""
    cfg = OmegaConf.create(
        {
            "method": name,
            "method_kwargs": {"proj_hidden_dim": d, "proj_output_dim": d, "scale_loss": 0.024},
            "backbone": {"name": backbone, "kwargs": {"width": 8} if args.small else {}},
            "data": {
                "dataset": "custom",
                "num_classes": 10,
                "num_large_crops": 2,
                "num_small_crops": 0,
            },
            "optimizer": {
                **{"name": "sgd", "batch_size": 32, "lr": 1e-3, "classifier_lr": 1e-3},
                **{"weight_decay": 1e-4, "kwargs": {}},
            },
            "scheduler": {"name": "none"},
            "performance": {"disable_channel_last": False, "compile": False},
            "max_epochs": 1,
            "seed": 0,
        }
    )
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    model = set_up(METHODS[name](cfg), cfg).to(args.device)
    model.log_dict = lambda *_, **__: None
    return model


def train(model: Any, optimizer: Any, batch: Any, device: str) -> None:
    """One step, in bf16 on a GPU; many a CPU only emulates it."""
    optimizer.zero_grad()
    with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        loss = model.training_step(batch, 0)
    loss.backward()
    optimizer.step()


def steps(args: argparse.Namespace) -> None:
    """Whole steps of `mixbt` against the host's `barlow_twins`, and the loss's share of them."""
    precision = "float32" if args.device == "cpu" else "bf16"
    header = (
        *("network", "px", "batch", "D", "run", "barlow_twins, ms", "mixbt, ms", "ratio"),
        *("loss, % of a step", "barlow_twins, MiB", "mixbt, MiB"),
    )
    begin(f"Steps, {precision}, channels_last", header)
    eager = product(args.networks, args.dimensions, [False])
    compiled = product(args.networks, args.compiled_dimensions, [True])
    for (backbone, size, n), d, how in (*eager, *compiled):
        found = measured_step(args, backbone, size, n, d, compiled=how)
        add(backbone, size, n, d, "compiled" if how else "eager", *found)


def measured_step(
    args: argparse.Namespace, backbone: str, size: int, n: int, d: int, *, compiled: bool
) -> list[str]:
    """The numbers of a row of `steps`."""
    torch.compiler.reset()  # else each further network counts as one more recompilation
    given = [torch.randn(n, 3, size, size, device=args.device) for _ in range(2)]
    given = [x.contiguous(memory_format=torch.channels_last) for x in given]
    targets = torch.zeros(n, dtype=torch.int64, device=args.device)
    ways: dict[str, Callable[[], object]] = {}
    for name in ("barlow_twins", "mixbt"):
        model = method(name, args, backbone, d, performance__compile=compiled)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        ways[name] = partial(train, model, optimizer, [targets, given, targets], args.device)
    for call in ways.values():
        call()  # what is compiled, and what the optimizer keeps, is there before memory is counted
    memory = {name: peak(call, args.device) for name, call in ways.items()}
    z = [torch.randn(n, d, device=args.device, requires_grad=True) for _ in range(3)]
    perm = torch.randperm(n, device=args.device)
    ways["loss"] = partial(step, OBJECTIVES["mixbt"].ours, z, perm=perm)
    times = interleave(ways, rounds=args.rounds, device=args.device)
    return [
        *(f"{1e3 * median(times[name]):.1f}" for name in ("barlow_twins", "mixbt")),
        f"{ratio(times['mixbt'], times['barlow_twins']):.2f}",
        f"{100 * ratio(times['loss'], times['mixbt']):.1f}",
        *(f"{memory[name]:.0f}" for name in ("barlow_twins", "mixbt")),
    ]


class Waiting:
    """Which share of the time a device waits for the next batch."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.marks: list[Any] = []

    def mark(self) -> None:
        """The device's time, when it comes here."""
        if self.device == "cpu":
            self.marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.marks.append(event)

    def seconds(self, first: int, last: int) -> float:
        """Between two marks."""
        a, b = self.marks[first], self.marks[last]
        return b - a if self.device == "cpu" else a.elapsed_time(b) / 1000


def images(count: int) -> Any:
    """An array of noise: its values do not change what it takes."""
    array = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return WithIndex(ArrayImages(LabelledImages(array, np.zeros(count, int)), as_tensor))


def end_to_end(args: argparse.Namespace) -> None:
    """Training from an array in memory: a batch is marked when it has come and when it is done."""
    title = f"From an array in memory, {args.small_network}, 32 px, {args.workers} loader processes"
    begin(title, ("views", "batch", "images/s", "the device waits, %"))
    for count, n in product(args.views, args.batches):
        cfg = views.config(32, count)
        augmentation = batch_augmentation(cfg)
        started = max(3, 2 * args.workers)  # while the loader's processes start, all batches wait
        total = n * (args.steps + started)
        batches = BatchViews(images(total), augmentation, seed=0, compute=False)
        loader: Iterable[Any] = DataLoader(
            batches,
            sampler=EpochBatchSampler(EpochSampler(total, 0, lambda: 0), n),
            batch_size=None,
            collate_fn=views.as_it_is,
            num_workers=args.workers,
            pin_memory=args.device != "cpu",
        )
        model = method(
            "multiaug_barlow_twins", args, args.small_network, 1024, data__num_small_crops=count - 2
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        clock = Waiting(args.device)
        for drawn in loader:
            clock.mark()
            batch = drawn.computed(augmentation, torch.device(args.device, 0))
            train(model, optimizer, batch, args.device)
            clock.mark()
        if args.device != "cpu":
            torch.cuda.synchronize()
        first, last = 2 * started - 1, len(clock.marks) - 1  # ends of steps
        waited = sum(clock.seconds(i, i + 1) for i in range(first, last, 2))
        seconds = clock.seconds(first, last)
        made = n * (last - first) // 2
        add(count, n, f"{made / seconds:,.0f}", f"{100 * waited / seconds:.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="few and small sizes")
    parser.add_argument("--workers", type=int, default=8, help="of the loader")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu --small tries it without one")
    warnings.filterwarnings("ignore")
    register()
    args.sizes = [(256, 1024), (256, 8192), (1024, 1024), (1024, 8192), (2048, 16384)]
    args.networks = [("resnet18", 32, 256), ("resnet18", 32, 1024), ("resnet50", 224, 256)]
    args.dimensions, args.compiled_dimensions = [1024, 8192], [8192]
    args.views, args.batches, args.steps, args.small_network = (
        [2, 4, 8],
        [256, 1024],
        30,
        "resnet18",
    )
    if args.small:
        args.sizes, args.dimensions, args.compiled_dimensions, args.rounds = (
            [(32, 256)],
            [64],
            [],
            2,
        )
        args.networks, args.small_network = [("narrow_resnet10", 32, 16)], "narrow_resnet10"
        args.views, args.batches, args.steps, args.workers = [2, 4], [32], 3, 0
    card = torch.cuda.get_device_name() if args.device == "cuda" else "the CPU standing in"
    started = time.perf_counter()
    print(f"# {card}\n\n{machine('torchvision', 'lightning', 'timm')}\nhost {HOST}")
    for measure in (losses, end_to_end, steps):
        measure(args)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
