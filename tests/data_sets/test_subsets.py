"""Lists of files, as SimCLR's of 1 % and 10 % of ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mixbt_plugin.data import evaluation_datasets, take_part
from tests.images import image_folder


@pytest.fixture
def images(tmp_path: Path) -> Any:
    root = image_folder(tmp_path / "images", per_class=3)
    for path in (root / "train" / "class2").glob("*.png"):
        path.rename(path.with_name(f"class2_{path.name}"))
    paths = {"train_path": str(root / "train"), "val_path": str(root / "val")}
    cfg = OmegaConf.create({"data": {"dataset": "custom", "format": "image_folder", **paths}})
    return evaluation_datasets(cfg, lambda image: image, lambda image: image)[0]


def part(images: Any, text: str, **data: Any) -> Any:
    Path("list.txt").write_text(text)
    return take_part(images, OmegaConf.create({"data": {"train_subset": "list.txt", **data}}))


def test_files_by_name_or_with_their_folder(images: Any) -> None:
    taken = part(images, "class2_1.png\nclass5/0.png\n\nclass0/2.png\n")
    assert [taken[n][1] for n in range(len(taken))] == [2, 5, 0]
    assert taken[0][0] == images[7][0]


@pytest.mark.parametrize(
    "text,message",
    [
        ("0.png", r"'0.png' \(1 of 1 lines\) means 5 images"),
        ("class2_1.png\nclass9/0.png", r"'class9/0.png' \(1 of 2 lines\) means 0 images"),
        ("\n", "means no lines"),
    ],
)
def test_lines_that_do_not_mean_one_image(images: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"data.train_subset='list.txt'.*{message}"):
        part(images, text)


def test_a_list_that_cannot_be_taken(images: Any) -> None:
    with pytest.raises(ValueError, match="data.fraction=0.1 with data.train_subset='list.txt'"):
        part(images, "class2_1.png", fraction=0.1)
    with pytest.raises(ValueError, match="this data set has no file names"):
        part(list(range(3)), "0.png")
    with pytest.raises(ValueError, match="data.train_subset='other.txt': no such file"):
        take_part(images, OmegaConf.create({"data": {"train_subset": "other.txt"}}))
