"""``mixbt-embed`` and its files, in this process, on photographs and digits."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mixbt_plugin.apps import embed as embedding
from mixbt_plugin.apps import pictures
from mixbt_plugin.apps.embed import embed
from mixbt_plugin.apps.export import export
from mixbt_plugin.apps.pictures import draw_features
from mixbt_plugin.apps.vectors import VectorFolder, Vectors, nearest, spread
from mixbt_plugin.apps.weights import load_pretrained
from mixbt_plugin.data import still_transform
from mixbt_plugin.settings import ConfigError
from tests.apps.composing import composed
from tests.apps.untrained import checkpoint_of
from tests.images import CLASSES, image_folder

BACKBONE = {"name": "narrow_resnet10", "kwargs": {"width": 8}}
needs_pyarrow = pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow")
needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="needs extra [onnx]"
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train/<class>/<n>.png``; 18 images, and files that are none."""
    root = image_folder(tmp_path_factory.mktemp("photos"), per_class=3) / "train"
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return checkpoint_of(folder, BACKBONE, "custom", augmentations=[{"crop_size": 16}])


def words(checkpoint: Path, photos: Path, *more: str) -> list[str]:
    quiet = () if any(word.startswith("picture") for word in more) else ("picture=0",)
    return [f"pretrained_checkpoint={checkpoint}", f"images={photos}", "folder=out", *quiet, *more]


def embedded(*overrides: str) -> VectorFolder:
    return embed(composed("embed/default.yaml", *overrides))


def joined(folder: VectorFolder) -> Vectors:
    shards = list(folder)
    return Vectors(*(np.concatenate(fields) for fields in zip(*shards)))


@torch.no_grad()
def by_hand(checkpoint: Path, files: list[Path], key: str = "feats") -> Tensor:
    """Features of one file at a time."""
    where = f"pretrained_checkpoint={checkpoint}"
    model, cfg, _, images = load_pretrained(composed("knn/default.yaml", where))
    still = still_transform(cfg.data.dataset, images)
    return torch.cat([model(still(Image.open(file).convert("RGB"))[None])[key] for file in files])


@pytest.mark.parametrize("format", ["npz", pytest.param("parquet", marks=needs_pyarrow)])
@pytest.mark.parametrize("kind,key", [("backbone", "feats"), ("projector", "z")])
def test_vectors_are_the_networks_whatever_the_shards(
    format: str, kind: str, key: str, checkpoint: Path, photos: Path
) -> None:
    asked = words(checkpoint, photos, f"format={format}", f"feature_type={kind}")
    folder = embedded(*asked, "shard=7", "batch_size=5")
    assert sorted(path.name for path in folder.path.iterdir()) == [
        *("index.json", *(f"part-0000{n}.{format}" for n in range(3)))
    ]
    assert [len(shard.files) for shard in folder] == [7, 7, 4]
    vectors = joined(folder)
    expected_names = [f"class{label}/{n}.png" for label in range(CLASSES) for n in range(3)]
    assert vectors.files.tolist() == expected_names
    assert vectors.places.tolist() == list(range(18))
    expected = by_hand(checkpoint, [photos / name for name in expected_names], key)
    torch.testing.assert_close(torch.from_numpy(vectors.features), expected)


def test_npz_is_read_by_numpy_alone(checkpoint: Path, photos: Path) -> None:
    embedded(*words(checkpoint, photos))
    with np.load("out/part-00000.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["features", "files", "places", "targets"]
        assert arrays["features"].dtype == np.float32
    index = json.loads(Path("out/index.json").read_text())
    assert (index["images"], index["parts"]) == (18, ["part-00000.npz"])
    assert index["crop_size"] == 16


def test_a_data_set_has_classes_and_numbers(checkpoint: Path) -> None:
    where = (f"pretrained_checkpoint={checkpoint}", "data.dataset=mnist5k", "batch_size=500")
    vectors = joined(embedded(*where, "folder=out", "picture=0"))
    assert vectors.files[[0, 999]].tolist() == ["mnist5k/val/0", "mnist5k/val/999"]
    assert np.bincount(vectors.targets).tolist() == [100] * 10


def test_what_cannot_be_read_is_left_out_with_its_name(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = image_folder(tmp_path / "photos", per_class=2) / "val"
    (photos / "class1" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"class1/0.png.*data.unreadable=skip leaves it out"):
        embedded(*words(checkpoint, photos))
    vectors = joined(embedded(*words(checkpoint, photos, "+data.unreadable=skip", "batch_size=1")))
    assert len(vectors.files) == 11 and "class1/0.png" not in vectors.files
    assert "1 images, which cannot be read" in capsys.readouterr().out
    expected = by_hand(checkpoint, [photos / name for name in vectors.files])
    torch.testing.assert_close(torch.from_numpy(vectors.features), expected)


@pytest.mark.slow
def test_vectors_that_are_there_are_read_and_others_refused(
    checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded(*words(checkpoint, photos))
    written = Path("out/part-00000.npz").stat().st_mtime_ns
    embedded(*words(checkpoint, photos, "queries=[class0/0.png]", "picture=10"))
    assert "holds these vectors already" in capsys.readouterr().out
    assert Path("out/part-00000.npz").stat().st_mtime_ns == written
    for file in ("features.png", "neighbours.png"):
        assert min(Image.open(f"out/{file}").size) > 100
    with pytest.raises(ConfigError, match="feature_type='backbone', and this is 'projector'"):
        embedded(*words(checkpoint, photos, "feature_type=projector"))


def test_files_of_others_stay(checkpoint: Path, photos: Path) -> None:
    Path("out/part-1").mkdir(parents=True)
    theirs = [Path("out/part-00000-abc.snappy.parquet"), Path("out/part-list.txt")]
    for file in theirs:
        file.write_text("mine")
    Path("out/part-00007.npz").write_text("of a run that was interrupted")
    embedded(*words(checkpoint, photos))
    assert all(file.read_text() == "mine" for file in theirs) and Path("out/part-1").is_dir()
    assert not Path("out/part-00007.npz").exists()


@pytest.mark.parametrize("content", ["[]", "{}", "x"])
def test_an_index_of_another_program_is_refused(
    content: str, checkpoint: Path, photos: Path
) -> None:
    Path("out").mkdir()
    Path("out/index.json").write_text(content)
    with pytest.raises(ConfigError, match="folder='out': its index.json is not one of mixbt-embed"):
        embedded(*words(checkpoint, photos))


def test_vectors_of_images_that_were_read_otherwise_are_refused(checkpoint: Path) -> None:
    asked = (f"pretrained_checkpoint={checkpoint}", "data.dataset=photo_patches", "folder=out")
    embedded(*asked, "picture=0", "+data.color=false")
    with pytest.raises(ConfigError, match="'color': False.*, and this is .*'color': True"):
        embedded(*asked, "picture=0", "+data.color=true")


def test_vectors_of_other_images_of_the_same_number_are_refused(
    checkpoint: Path, tmp_path: Path
) -> None:
    photos = image_folder(tmp_path / "photos", per_class=1) / "val"
    embedded(*words(checkpoint, photos))
    (photos / "class0" / "0.png").rename(photos / "class0" / "1.png")
    with pytest.raises(ConfigError, match="its index.json says source_names="):
        embedded(*words(checkpoint, photos))


def test_a_part_that_is_gone_is_written_again(checkpoint: Path, photos: Path) -> None:
    before = joined(embedded(*words(checkpoint, photos)))
    Path("out/part-00000.npz").unlink()
    after = joined(embedded(*words(checkpoint, photos)))
    assert np.array_equal(before.features, after.features)


def test_broken_images_are_left_out_as_in_pretraining(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", per_class=1) / "val"
    (photos / "class1" / "0.png").write_bytes(b"no image")
    skipping = checkpoint_of(
        *(tmp_path / "run", BACKBONE, "custom"),
        augmentations=[{"crop_size": 16}],
        data__unreadable="skip",
    )
    assert len(joined(embedded(*words(skipping, photos))).files) == CLASSES - 1


def test_a_projector_that_is_not_there_is_refused_before_the_folder(
    checkpoint: Path, photos: Path
) -> None:
    official = ("backbone.name=narrow_resnet10", "+backbone.kwargs.width=8", "data.dataset=custom")
    with pytest.raises(ConfigError, match="feature_type='projector': there is no projector"):
        embedded(*words(checkpoint, photos, *official, "feature_type=projector"))
    assert not Path("out").exists()


def test_a_link_is_left_out_among_its_own_neighbours(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for number, file in enumerate(sorted(photos.rglob("*.png"))):
        (links / f"$_$ {number}.png").symlink_to(file)  # which a formula's letters are no word of
    sheets: list[Any] = []
    draw = pictures.draw_contact_sheet

    def drawn(rows: Any, *more: Any) -> None:
        sheets.append(rows)
        draw(rows, *more)

    monkeypatch.setattr(embedding, "draw_contact_sheet", drawn)
    embedded(*words(checkpoint, links, f"queries=['{links}/$_$ 2.png']", "neighbours=3"))
    (((_, query, _), *neighbours),) = sheets[0]
    assert query.endswith("$_$ 2.png")
    assert "$_$ 2.png" not in [name for _, name, _ in neighbours]


def test_three_images_have_a_picture(checkpoint: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (number * 80, 9, 200)).save(photos / f"{number}.png")
    embedded(*words(checkpoint, photos, "picture=10"))
    assert Path("out/features.png").is_file()


def test_an_image_from_elsewhere_finds_its_own_copy(
    checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets: list[Any] = []
    monkeypatch.setattr(embedding, "draw_contact_sheet", lambda rows, *_: sheets.extend(rows))
    Path("copy.png").write_bytes((photos / "class2/1.png").read_bytes())
    queries = f"queries=[copy.png,class2/1.png,{photos / 'class2/1.png'}]"
    embedded(*words(checkpoint, photos, queries, "neighbours=3"))
    (_, found, *others), *same = [[cell[1:] for cell in row] for row in sheets]
    assert found == ("class2/1.png", "1.000")
    for _, *nearest_others in same:  # among the images itself, it is left out
        assert nearest_others[:2] == others


def test_an_interrupted_run_begins_again(checkpoint: Path, photos: Path) -> None:
    Path("out").mkdir()
    Path("out/part-00005.npz").write_bytes(b"of a run with smaller shards")
    embedded(*words(checkpoint, photos))
    assert sorted(path.name for path in Path("out").iterdir()) == ["index.json", "part-00000.npz"]


@pytest.mark.slow
@needs_onnx
def test_an_onnx_file_is_embedded_as_the_checkpoint(checkpoint: Path, photos: Path) -> None:
    expected = joined(embedded(*words(checkpoint, photos))).features
    where = (f"pretrained_checkpoint={checkpoint}", "format=onnx", "folder=exported")
    file = export(composed("export/default.yaml", *where))
    found = joined(embedded(*words(file, photos), "folder=of_onnx")).features
    assert abs(found - expected).max() <= 1e-4 * abs(expected).max()
    with pytest.raises(ConfigError, match="takes images of \\[16, 16\\]"):
        embedded(*words(file, photos, "data.augmentations.crop_size=32"))


@pytest.mark.parametrize(
    "more,message",
    [
        (("split=train",), "images='.*' with split: expected a folder, or a split"),
        (("images=nowhere",), "images='nowhere': no such folder"),
        (("queries=[x.png]",), "'x.png' is neither a file nor the name of one of the images"),
    ],
)
def test_what_is_refused(
    more: tuple[str, ...], message: str, checkpoint: Path, photos: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        embedded(*words(checkpoint, photos, *more))
    assert not Path("out").exists()


def some_vectors(count: int, dimensions: int = 5) -> Vectors:
    features = np.random.default_rng(0).normal(size=(count, dimensions)).astype(np.float32)
    names = np.array([f"{n}.png" for n in range(count)])
    places = np.arange(count)
    return Vectors(features, names, places, places % 3)


@pytest.mark.parametrize("k", [4, 100])
def test_neighbours_over_shards_are_those_of_all(k: int) -> None:
    vectors = some_vectors(23)
    shards = [vectors.at(slice(start, start + 6)) for start in range(0, 23, 6)]
    queries = torch.from_numpy(vectors.features[[2, 20]])
    found = nearest(shards, queries, k, ["2.png", "not among them"])
    units = vectors.features / np.linalg.norm(vectors.features, axis=1, keepdims=True)
    similarity = units[[2, 20]] @ units.T
    similarity[0, 2] = -np.inf
    order = np.argsort(-similarity, axis=1)[:, :k]
    assert found.places.tolist() == order.tolist()
    assert found.files.tolist() == vectors.files[order].tolist()
    np.testing.assert_allclose(
        found.similarity, np.take_along_axis(similarity, order, 1), atol=1e-6
    )
    assert found.places[1, 0] == 20


@pytest.mark.parametrize("wanted,expected", [(3, [0, 11, 22]), (50, list(range(23)))])
def test_a_sample_is_spread_over_all_shards(wanted: int, expected: list[int]) -> None:
    vectors = some_vectors(23)
    shards = [vectors.at(slice(start, start + 6)) for start in range(0, 23, 6)]
    assert spread(shards, 23, wanted).places.tolist() == expected


@pytest.mark.slow
def test_the_picture_has_a_colour_for_each_group_of_up_to_twenty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    drawn: list[Any] = []
    scatter = Axes.scatter

    def recorded(*args: Any, **kwargs: Any) -> Any:
        drawn.append(kwargs.get("label"))
        return scatter(*args, **kwargs)

    monkeypatch.setattr(Axes, "scatter", recorded)
    features = some_vectors(60).features
    for groups, expected in ((3, ["0", "1", "2"]), (30, [None]), (1, [None])):
        drawn.clear()
        labels = [str(n % groups) for n in range(60)]
        maps = draw_features(features, labels, "title", tmp_path / "x.png")
        assert maps[0] == "PCA"
        assert drawn == expected * len(maps)
