"""Batches whose views are made together, and the arrays that loader processes share."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10, STL10

from mixbt_plugin.apps.loaders import ViewsOnDevice
from mixbt_plugin.apps.seeding import EpochBatchSampler, EpochSampler
from mixbt_plugin.data import BatchKey, BatchViews, as_tensor, batch_augmentation, pretrain_dataset
from mixbt_plugin.data.memory import ArrayImages, array_of
from mixbt_plugin.data.sources import LabelledImages
from tests.images import image_folder
from tests.shared_memory import private_share, report, report_written_by_a_fork
from tests.views.pipelines import EVERYTHING, entry

BATCH, SEED = 16, 3


def config(folder: Path | None = None, **data: Any) -> DictConfig:
    """Four views of two sizes, from patches in memory or from a folder."""
    given: dict[str, Any] = {"dataset": "photo_patches", "color": True, "fraction": -1}
    if folder is not None:
        given = {"dataset": "custom", "train_path": str(folder / "train"), "fraction": -1}
    pipelines = [entry(32, 3, **EVERYTHING), entry(16, 1)]
    return OmegaConf.create({"data": {**given, **data}, "augmentations": pipelines})


def as_it_is(batch: Any) -> Any:
    return batch


def views_of(cfg: DictConfig, **kwargs: Any) -> BatchViews:
    return BatchViews(pretrain_dataset(cfg, as_tensor), batch_augmentation(cfg), SEED, **kwargs)


def loader(batches: BatchViews, epoch: int = 0, **kwargs: Any) -> DataLoader[Any]:
    order = EpochSampler(len(batches), SEED, lambda: epoch)
    return DataLoader(
        batches,
        sampler=EpochBatchSampler(order, BATCH),
        batch_size=None,
        collate_fn=as_it_is,
        **kwargs,
    )


def assert_same(ours: Any, theirs: Any) -> None:
    for (indexes, views, targets), (others, other_views, other_targets) in zip(
        ours, theirs, strict=True
    ):
        assert torch.equal(indexes, others)
        assert torch.equal(targets, other_targets)
        assert len(views) == len(other_views)
        assert all(torch.equal(one, other) for one, other in zip(views, other_views))


@pytest.fixture(params=["memory", "files"])
def cfg(request: pytest.FixtureRequest, tmp_path: Path) -> DictConfig:
    if request.param == "memory":
        return config(fraction=0.02)
    return config(image_folder(tmp_path))


def test_a_batch_is_solo_learns_in_shape_type_and_order(cfg: DictConfig) -> None:
    batches = views_of(cfg)
    indexes, views, targets = batches[BatchKey(0, 0, [5, 3, 8])]
    assert [tuple(view.shape) for view in views] == [(3, 3, 32, 32)] * 3 + [(3, 3, 16, 16)]
    assert indexes.dtype == targets.dtype == torch.int64
    for place, position in enumerate([5, 3, 8]):
        index, _, target = batches.dataset[position]
        assert (indexes[place], targets[place]) == (index, target)


def test_a_part_of_images_in_memory_becomes_the_views_that_the_whole_does() -> None:
    key = BatchKey(0, 0, list(range(BATCH)))
    of_part = views_of(config(fraction=0.02))[key]
    places = of_part[0].tolist()
    assert_same([of_part], [views_of(config())[key._replace(positions=places)]])


def test_each_view_shows_its_own_image(cfg: DictConfig) -> None:
    for pipeline in cfg.augmentations:
        pipeline.update(entry(32, 2, rrc__enabled=False))
    batches = views_of(cfg)
    key = BatchKey(4, 2, list(range(7, 20)))
    _, views, _ = batches[key]
    pipeline = cfg.augmentations[0]
    mean, std = (torch.tensor(list(v)).view(3, 1, 1) for v in (pipeline.mean, pipeline.std))
    whole = torch.stack([batches.dataset[position][1] for position in key.positions])
    for view in views:
        torch.testing.assert_close(view, (whole / 255 - mean) / std)


def test_batches_do_not_depend_on_workers_or_on_what_came_before(cfg: DictConfig) -> None:
    batches = views_of(cfg)
    alone = list(loader(batches))
    assert len(alone) == len(batches) // BATCH
    assert_same(alone, loader(batches, num_workers=2))
    assert_same(alone, loader(batches, num_workers=3, prefetch_factor=1))
    last = list(loader(batches).sampler)[-1]
    assert_same([views_of(cfg)[last]], alone[-1:])


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches() -> None:
    batches = views_of(config(fraction=0.02))
    spawned = loader(batches, num_workers=1, multiprocessing_context="spawn")
    assert_same(loader(batches), spawned)


def test_seed_rank_epoch_and_batch_each_change_the_views(cfg: DictConfig) -> None:
    key = BatchKey(0, 0, list(range(BATCH)))
    first = views_of(cfg)[key][1]
    other_seed = views_of(cfg)
    other_seed.seed += 1
    for other in (
        other_seed[key],
        views_of(cfg, rank=1)[key],
        views_of(cfg)[key._replace(epoch=1)],
        views_of(cfg)[key._replace(batch=1)],
    ):
        assert not any(torch.equal(one, two) for one, two in zip(first, other[1]))


def test_views_computed_by_the_accelerators_process_are_the_same_simulated_on_the_cpu(
    cfg: DictConfig,
) -> None:
    drawn = loader(views_of(cfg, compute=False), num_workers=1)
    on_device = ViewsOnDevice(drawn, batch_augmentation(cfg), torch.device("cpu"))
    assert len(on_device) == len(drawn)
    assert_same(loader(views_of(cfg)), on_device)


def test_files_of_different_sizes(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    for n, path in enumerate(sorted((root / "train").rglob("*.png"))):
        Image.open(path).resize((30 + n, 60 - n)).save(path)
    batches = views_of(config(root))
    assert_same(loader(batches), loader(batches, num_workers=2))
    with pytest.raises(ValueError, match=r"data.in_memory=True: image \d+ has .* one size"):
        views_of(config(root, in_memory=True))


def test_files_kept_in_memory_are_the_files(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    kept, read = (pretrain_dataset(config(root, in_memory=m), as_tensor) for m in (True, False))
    assert len(kept) == len(read)  # type: ignore[arg-type]
    for place in range(0, len(kept), 5):  # type: ignore[arg-type]
        assert kept[place][0] == read[place][0]
        assert torch.equal(kept[place][1], read[place][1])
        assert kept[place][2] == read[place][2]


def test_more_than_half_of_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixbt_plugin.data.memory._memory", lambda: 2**17)
    with pytest.raises(ValueError, match=r"data.in_memory=True: 48 images of 32 x 32 pixels"):
        views_of(config(image_folder(tmp_path), in_memory=True))


@pytest.mark.parametrize("layout", ["cifar", "stl"])
def test_torchvisions_arrays_give_what_its_data_sets_give(layout: str) -> None:
    generator = np.random.default_rng(0)
    made: Any = object.__new__(CIFAR10 if layout == "cifar" else STL10)
    made.transform = made.target_transform = None
    if layout == "cifar":
        made.data, made.targets = generator.integers(0, 256, (9, 32, 32, 3), np.uint8), [*range(9)]
    else:
        # As torchvision reads it: columns before rows.
        data = generator.integers(0, 256, (9, 3, 96, 96), np.uint8)
        made.data, made.labels = np.transpose(data, (0, 1, 3, 2)), np.arange(-1, 8)
    kept = ArrayImages(array_of(made), lambda image: image)
    assert np.shares_memory(kept.images.numpy(), made.data)
    for (ours, label), (theirs, target) in zip((kept[n] for n in range(9)), made, strict=False):
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
        assert label == target


@pytest.mark.slow
@pytest.mark.parametrize("start,processes", [("fork", 2), ("spawn", 1)])
def test_workers_share_the_array(start: str, processes: int) -> None:
    pixels = np.ones((500, 128, 128, 3), np.uint8)
    images = ArrayImages(LabelledImages(pixels, np.zeros(500, np.int64)), np.asarray)
    assert private_share(images) > 0.9
    context: Any = multiprocessing.get_context(start)
    queue, done = context.Queue(), context.Event()
    workers = [context.Process(target=report, args=(images, queue, done)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    shares = [queue.get(timeout=60) for _ in workers]
    done.set()
    for worker in workers:
        worker.join()
    assert max(shares) < 0.1


@pytest.mark.slow
def test_forked_workers_share_the_names_of_files(tmp_path: Path) -> None:
    image = image_folder(tmp_path, per_class=1) / "train" / "class0" / "0.png"
    # From a process of its own: what else the tests have in memory would be written to as well.
    context: Any = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=report_written_by_a_fork, args=(str(image), queue))
    process.start()
    written = queue.get(timeout=100)
    process.join()
    assert written < 4000
