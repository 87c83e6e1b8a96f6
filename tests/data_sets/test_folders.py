"""Data sets of image files: Tiny-ImageNet as downloaded, custom folders, H5 files."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from mixbt_plugin.data import evaluation_datasets, pretrain_dataset, validation_dataset
from mixbt_plugin.data.h5 import H5Images
from tests.images import CLASSES, TINY_CLASSES, image_folder, tiny_imagenet


def pixels(image: Any) -> Any:
    return np.asarray(image)


def config(dataset: str, root: Path, **data: Any) -> DictConfig:
    paths = {"train_path": str(root / "train"), "val_path": str(root / "val")}
    return OmegaConf.create({"data": {"dataset": dataset, "fraction": -1, **paths, **data}})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_imagenet(tmp_path_factory.mktemp("data") / "tiny-imagenet-200")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "images")


@pytest.mark.parametrize("whole_folder", [True, False])
def test_tiny_imagenet_as_downloaded(tiny: Path, whole_folder: bool) -> None:
    cfg = config("tiny_imagenet", tiny)
    if whole_folder:
        cfg.data.train_path = cfg.data.val_path = str(tiny)
    splits: Any = evaluation_datasets(cfg, pixels, pixels)
    train, val = splits
    assert (len(train), len(val)) == (2 * TINY_CLASSES, 2 * TINY_CLASSES)
    classes = sorted(path.name for path in (tiny / "train").iterdir())
    assert [target for _, target in train] == [n // 2 for n in range(2 * TINY_CLASSES)]
    rows = (tiny / "val" / "val_annotations.txt").read_text().splitlines()
    for (image, target), row in zip(val, rows):
        name, label, *_ = row.split("\t")
        assert classes[target] == label
        expected = np.asarray(Image.open(tiny / "val" / "images" / name).convert("RGB"))
        assert np.array_equal(image, expected)


def test_tiny_imagenet_whose_validation_images_were_sorted(tiny: Path, tmp_path: Path) -> None:
    for row in (tiny / "val" / "val_annotations.txt").read_text().splitlines():
        name, label, *_ = row.split("\t")
        (tmp_path / "val" / label / "images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "val" / label / "images" / name).hardlink_to(tiny / "val" / "images" / name)
    cfg = config("tiny_imagenet", tiny, val_path=str(tmp_path / "val"))
    val: Any = validation_dataset(cfg, pixels)
    assert [target for _, target in val] == [n // 2 for n in range(2 * TINY_CLASSES)]


def test_tiny_imagenet_with_a_missing_image(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "val_annotations.txt").write_text("val_0.JPEG\tn10000000\t0\t0\t9\t9\n")
    cfg = config("tiny_imagenet", tiny, val_path=str(tmp_path))
    with pytest.raises(ValueError, match=r"data.val_path=.*names 1 files .*: val_0.JPEG"):
        validation_dataset(cfg, pixels)


def test_a_fraction_of_tiny_imagenet_has_all_classes(tiny: Path) -> None:
    part: Any = pretrain_dataset(config("tiny_imagenet", tiny, fraction=0.5), pixels)
    again: Any = pretrain_dataset(config("tiny_imagenet", tiny, fraction=0.5), pixels)
    assert [index for index, *_ in part] == [index for index, *_ in again]
    assert sorted(target for *_, target in part) == list(range(TINY_CLASSES))


def test_a_fraction_holds_for_pretraining_alone(images: Path) -> None:
    cfg = config("custom", images, fraction=0.5)
    part: Any = pretrain_dataset(cfg, pixels)
    splits: Any = evaluation_datasets(cfg, pixels, pixels)
    assert [len(part), *map(len, splits)] == [CLASSES * 4, CLASSES * 8, CLASSES * 8]


def test_a_fraction_without_labels(images: Path) -> None:
    folder = images / "train" / "class0"
    cfg = config("custom", images, train_path=str(folder), no_labels=True, fraction=0.5)
    part: Any = pretrain_dataset(cfg, pixels)
    again: Any = pretrain_dataset(cfg, pixels)
    assert len(part) == 4
    assert [index for index, *_ in part] == [index for index, *_ in again]
    assert {target for *_, target in part} == {-1}


@pytest.mark.solo_learn
def test_a_fraction_is_solo_learns(images: Path) -> None:
    from solo.data.pretrain_dataloader import prepare_datasets

    theirs = prepare_datasets("custom", pixels, images / "train", data_fraction=0.25)
    ours: Any = pretrain_dataset(config("custom", images, fraction=0.25), pixels)
    chosen = [ours.images.dataset.images.paths[index] for index in ours.images.indices]
    assert chosen == [str(path) for path, _ in theirs.samples]


def test_fraction_too_small_for_the_classes(images: Path) -> None:
    with pytest.raises(ValueError, match=r"data.fraction=0.05: cannot be drawn from 48 images"):
        pretrain_dataset(config("custom", images, fraction=0.05), pixels)


def without_folder(images: Path) -> None:
    (images / "val" / "class3").rename(images / "elsewhere")


def with_a_further_folder(images: Path) -> None:
    (images / "train" / "class3").rename(images / "train" / "class9")


def with_an_empty_folder(images: Path) -> None:
    (images / "val" / "class7").mkdir()


@pytest.mark.parametrize(
    "change,message",
    [
        (without_folder, r"data.val_path=.*: 1 only in data.train_path \(class3\)"),
        (with_a_further_folder, r"1 only in data.val_path \(class3\), 1 only in data.train_path"),
        (with_an_empty_folder, r"data.val_path=.*no images in the class folders class7"),
    ],
)
def test_class_folders_must_agree(
    images: Path, change: Callable[[Path], None], message: str
) -> None:
    change(images)
    with pytest.raises(ValueError, match=message):
        validation_dataset(config("custom", images), pixels)


def test_folders_of_another_kind(images: Path) -> None:
    flat = str(images / "train" / "class0")
    with pytest.raises(ValueError, match=r"data.train_path=.*class0.*there is no class folder"):
        pretrain_dataset(config("custom", images, train_path=flat), pixels)
    (images / "none").mkdir()
    (images / "none" / "read.me").touch()
    empty = str(images / "none")
    with pytest.raises(ValueError, match=r"data.train_path=.*there are no images in it"):
        pretrain_dataset(config("custom", images, train_path=empty, no_labels=True), pixels)


def test_too_many_and_too_few_classes(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match=r"train_path: .* holds 6 of imagenet100's 100 classes"):
        pretrain_dataset(config("imagenet100", images), pixels)
    for n in range(101):
        (images / "train" / f"n{n}").mkdir()
        Image.new("RGB", (2, 2)).save(images / "train" / f"n{n}" / "0.png")
    with pytest.raises(ValueError, match="holds 107 classes, and imagenet100 has 100"):
        pretrain_dataset(config("imagenet100", images), pixels)


def h5_file(folder: Path, path: Path) -> Path:
    """The class folders of a folder as an H5 file in solo-learn's layout."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra [h5])")
    with h5py.File(path, "w") as file:
        for image in sorted(folder.glob("*/*.png")):
            group = file.require_group(image.parent.name)
            group[image.name] = np.frombuffer(image.read_bytes(), np.uint8)
    return path


@pytest.mark.parametrize("dataset", ["imagenet", "custom"])
@pytest.mark.filterwarnings("ignore:.*of imagenet")
def test_h5_is_the_folder(images: Path, dataset: str) -> None:
    paths = {
        f"{split}_path": str(h5_file(images / split, images / f"{split}.h5"))
        for split in ("train", "val")
    }
    cfg = config(dataset, images)
    h5 = config(dataset, images, format="h5", **paths)
    splits: Any = zip(
        evaluation_datasets(h5, pixels, pixels), evaluation_datasets(cfg, pixels, pixels)
    )
    for ours, theirs in splits:
        assert len(ours) == len(theirs) == 48
        for (image, target), (expected, label) in zip(ours, theirs):
            assert target == label
            assert np.array_equal(image, expected)
    part: Any = pretrain_dataset(
        config(dataset, images, format="h5", fraction=0.25, **paths), pixels
    )
    assert np.bincount([target for *_, target in part]).tolist() == [2] * CLASSES


@pytest.mark.filterwarnings("ignore:.*of imagenet")
def test_a_list_of_an_h5_files_images(images: Path) -> None:
    path, listed = h5_file(images / "train", images / "train.h5"), images / "list.txt"
    listed.write_text("class4/3.png\nclass1/0.png\n")
    cfg = config("imagenet", images, format="h5", train_path=str(path), train_subset=str(listed))
    part: Any = pretrain_dataset(cfg, pixels)
    assert [(index, target) for index, _, target in part] == [(35, 4), (8, 1)]


def test_h5_without_labels_in_groups_or_not(images: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra [h5])")
    path = h5_file(images / "train", images / "train.h5")
    with h5py.File(path, "a") as file:
        content = file["class2/3.png"][:].tobytes()
        file["b.png"] = np.void(content)  # one value of many bytes, as some programs write them
        file["class0x.png"] = np.frombuffer(content, np.uint8)
    cfg = config("custom", images, format="h5", train_path=str(path), no_labels=True)
    read: Any = pretrain_dataset(cfg, pixels)
    assert len(read) == 50
    assert {target for *_, target in read} == {-1}
    named = {name: n for n, name in enumerate(read.images.paths)}
    for name in ("b.png", "class0x.png"):
        assert np.array_equal(read[named[name]][1], read[named["class2/3.png"]][1])


def test_h5_files_that_are_otherwise(images: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra [h5])")
    path, other = (h5_file(images / "train", images / f"{n}.h5") for n in range(2))
    with h5py.File(path, "a") as file:
        file.move("class0/0.png", "class0/0/0.png")
    with pytest.raises(ValueError, match="0.h5:class0/0: expected the bytes of an image file"):
        pretrain_dataset(config("custom", images, format="h5", train_path=str(path)), pixels)
    with h5py.File(other, "a") as file:
        file["0.png"] = file["class1/0.png"][:]
    with pytest.raises(ValueError, match=r"data.train_path=.*'0.png' is no group; .*no_labels"):
        pretrain_dataset(config("custom", images, format="h5", train_path=str(other)), pixels)


def test_h5_in_loader_processes(images: Path) -> None:
    h5 = H5Images(h5_file(images / "train", images / "train.h5"), lambda x: torch.tensor(pixels(x)))
    first, _ = h5[0]  # opened here before the processes start
    loader = torch.utils.data.DataLoader(h5, batch_size=48, num_workers=2)
    ((batch, targets),) = loader
    assert torch.equal(batch[0], first)
    assert targets.tolist() == [n // 8 for n in range(48)]


@pytest.mark.solo_learn
@pytest.mark.parametrize("listed", [True, False])
def test_h5_is_solo_learns(images: Path, listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an ImageNet-100 file holds classes of ImageNet that are not of the 100."""
    from mixbt_plugin.host import imagenet100_classes

    monkeypatch.setenv("HOME", str(images))  # solo-learn writes a list of the file's images there
    names = [*sorted(imagenet100_classes() or [])[3:6], "n00000000", "n99999999", "x"]
    if listed:
        for n, name in enumerate(names):
            (images / "train" / f"class{n}").rename(images / "train" / name)
    path = h5_file(images / "train", images / "train.h5")
    h5_dataset = pytest.importorskip("solo.data.h5_dataset")
    theirs = h5_dataset.H5Dataset("imagenet100", str(path), pixels)
    cfg = config("imagenet100", images, format="h5", train_path=str(path))
    with pytest.warns(UserWarning, match="6 of") if not listed else contextlib.nullcontext():
        ours: Any = pretrain_dataset(cfg, pixels)
    assert len(ours) == len(theirs) == (24 if listed else 48)
    for (_, image, target), (expected, label) in zip(ours, theirs):
        assert target == label
        assert np.array_equal(image, expected)


def test_a_broken_h5_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed (extra [h5])")
    (tmp_path / "train").write_bytes(b"no H5 file")
    with pytest.raises(ValueError, match="data.train_path=.*Unable to"):
        pretrain_dataset(config("imagenet", tmp_path, format="h5"), pixels)


def test_the_documented_sorting_of_tiny_imagenet(tiny: Path, tmp_path: Path) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    script = docs.split("```bash\n")[1].split("```")[0]
    shutil.copytree(tiny, tmp_path / "tiny-imagenet-200")
    subprocess.run(["bash", "-c", script], check=True, cwd=tmp_path)
    as_downloaded: Any = validation_dataset(config("tiny_imagenet", tiny), Image.Image.tobytes)
    root = tmp_path / "tiny-imagenet-200"
    cfg = config("custom", root, val_path=str(root / "val_sorted"))
    by_folder: Any = validation_dataset(cfg, Image.Image.tobytes)
    assert sorted(by_folder) == sorted(as_downloaded)
