"""``mixbt-embed``: vectors of images, their nearest neighbours, and a picture of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mixbt_plugin.apps import commands, training
from mixbt_plugin.apps.pictures import draw_contact_sheet, draw_features
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.schema import check_embed
from mixbt_plugin.apps.vectors import INDEX, VectorFolder, Vectors, nearest, spread
from mixbt_plugin.apps.weights import BackboneAlone, Pretrained, load_pretrained
from mixbt_plugin.checkpoints import OnnxBackbone
from mixbt_plugin.data import (
    Said,
    UnreadableImageError,
    network_images,
    read_image,
    split_as_it_is,
    still_transform,
    unlabelled_files,
)
from mixbt_plugin.registry import register
from mixbt_plugin.settings import ConfigError, MissingFileError, plain

NO_PROJECTOR = "feature_type='projector': there is no projector; take feature_type=backbone."


def embed(cfg: DictConfig) -> VectorFolder:
    """Writes the vectors of images, then draws what is asked for.

    A folder that already holds these vectors is read instead, so that further neighbours cost no
    pass through the network.

    Args:
        cfg: ``images`` (a folder) or ``data`` with ``split``; ``feature_type``, ``format``,
            ``shard``, ``folder``, ``queries``, ``neighbours``, ``picture``, ``batch_size``,
            ``num_workers``, ``accelerator``, and what `load_pretrained` takes, or the path of an
            ONNX file of ``mixbt-export``.

    Returns:
        The folder with the vectors.

    Raises:
        FileNotFoundError: the checkpoint or the folder of images is missing.
        ValueError: a key is missing or has a value that cannot be used, or ``folder`` holds other
            vectors.
    """
    register()
    check_embed(cfg)
    network = _network(cfg)
    say("input", network.images)
    still = still_transform(network.cfg.data.dataset, network.images)
    if cfg.feature_type == "projector" and isinstance(network.model, BackboneAlone):
        raise ConfigError(NO_PROJECTOR)
    source = _source(cfg, network.cfg)
    _check_queries(cfg.queries, source)
    device = training.device_of(cfg)
    encoder = Encoder(network.model.to(device), still, cfg.feature_type, device)
    folder = VectorFolder(Path(cfg.folder or _beside(cfg, source)), cfg.format)
    about = _about(cfg, source, network)
    if _is_there(folder, about):
        say("read", f"{folder.path} holds these vectors already")
    else:
        skip = network.cfg.data.get("unreadable") == "skip"
        folder.write(_batches(cfg, source, encoder, skip), cfg.shard, about)
    _draw(cfg, folder, source, encoder)
    return folder


class Source(NamedTuple):
    """Where images come from.

    Attributes:
        name: in words.
        images: a data set of (PIL image, class).
        root: the folder to which names are relative; None where images are no files.
    """

    name: str
    images: Any
    root: Path | None

    def name_of(self, place: int) -> str:
        """An image's path below the root, or the data set's name and the image's number."""
        if not hasattr(self.images, "paths"):
            return f"{self.name}/{place}"
        path = self.images.paths[place]
        return path if self.root is None else Path(path).relative_to(self.root).as_posix()

    def labels(self, vectors: Vectors) -> list[str] | None:
        """The class of each image or, in a folder, the first folder in its path."""
        if (vectors.targets >= 0).all():
            names = getattr(self.images, "classes", None)
            return [names[one] if names else str(one) for one in vectors.targets]
        firsts = [name.partition("/")[0] for name in vectors.files if "/" in name]
        return firsts if len(firsts) == len(vectors.files) else None


class Encoder(NamedTuple):
    """A network with what comes before it.

    Attributes:
        model: a method or a backbone alone, in evaluation mode.
        transform: from a PIL image to a tensor (3, H, W).
        kind: ``backbone`` or ``projector``.
        device: where the network runs.
    """

    model: Any
    transform: Any
    kind: str
    device: torch.device

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Vectors (N, F), float32 on the CPU."""
        out = self.model(batch.to(self.device))
        key = {"backbone": "feats", "projector": "z"}[self.kind]
        if key not in out:
            raise ConfigError(NO_PROJECTOR)
        return out[key].float().cpu()


class Readable(Dataset[Any]):
    """Images with their places; None for those that cannot be read and are to be skipped."""

    def __init__(self, images: Any, transform: Any, skip: bool) -> None:
        self.images, self.transform, self.skip = images, transform, skip

    def __getitem__(self, place: int) -> tuple[int, Tensor, int] | None:
        try:
            image, target = self.images[place]
        except UnreadableImageError as error:
            if self.skip:
                return None
            raise UnreadableImageError(
                f"{error}. Replace or remove the file; data.unreadable=skip leaves it out."
            ) from error
        return place, self.transform(image), target

    def __len__(self) -> int:
        return len(self.images)


def _network(cfg: DictConfig) -> Pretrained:
    """What `load_pretrained` gives, or an ONNX file likewise."""
    path = Path(cfg.pretrained_checkpoint)
    if path.suffix != ".onnx":
        return load_pretrained(cfg)
    if not path.is_file():
        raise MissingFileError(f"pretrained_checkpoint={str(path)!r}: no such file.")
    if cfg.backbone.name is not None or cfg.backbone.kwargs or cfg.pretrain_method is not None:
        raise ConfigError(
            f"backbone, pretrain_method: {path} holds the whole network; expected null."
        )
    backbone = OnnxBackbone(path)
    data = {key: value for key, value in cfg.data.items() if value is not None}
    data.setdefault("dataset", backbone.images.get("dataset", "custom"))
    asked = Said("data.augmentations", data.pop("augmentations", {}))
    images = network_images(data["dataset"], asked, Said("the file's metadata", backbone.images))
    if list(images.size) != backbone.images["crop_size"]:
        raise ConfigError(
            f"data.augmentations.crop_size={asked.values['crop_size']}: the network in {path} "
            f"takes images of {backbone.images['crop_size']}."
        )
    return Pretrained(BackboneAlone(backbone), OmegaConf.create({"data": data}), None, images)


def _source(cfg: DictConfig, network_cfg: DictConfig) -> Source:
    if cfg.images is not None:
        root = Path(cfg.images).expanduser()
        return Source(str(root), unlabelled_files(root, "images"), root)
    split = cfg.split or "val"
    images = split_as_it_is(network_cfg, split)
    given = network_cfg.data.get(f"{split}_path")
    is_folder = hasattr(images, "paths") and given is not None and Path(given).expanduser().is_dir()
    below = Path(given).expanduser() if is_folder else None
    return Source(f"{network_cfg.data.dataset}/{split}", images, below)


def _check_queries(queries: Sequence[str], source: Source) -> None:
    """Refuses what is neither a file nor the name of one of the images."""
    named = {
        _name_inside(query, source): query
        for query in queries
        if not Path(query).expanduser().is_file()
    }
    if named:
        for place in range(len(source.images)):
            named.pop(source.name_of(place), None)
    for query in named.values():
        raise ConfigError(
            f"queries: {query!r} is neither a file nor the name of one of the images, such as "
            f"{source.name_of(0)!r}."
        )


def _beside(cfg: DictConfig, source: Source) -> Path:
    checkpoint = Path(cfg.pretrained_checkpoint)
    what = Path(source.name).name if cfg.images is not None else source.name.replace("/", "-")
    return checkpoint.parent / "embeddings" / f"{checkpoint.stem}-{what}"


def _about(cfg: DictConfig, source: Source, network: Pretrained) -> dict[str, Any]:
    """What the vectors are, as JSON has it: two runs that say the same make the same ones.

    The images are told by their names, and those of an H5 file by its time too; that one of them
    was written anew under its old name is not seen.
    """
    file, data = Path(cfg.pretrained_checkpoint).resolve(), network.cfg.data
    names = hashlib.sha256()
    for place in range(len(source.images)):
        names.update(f"{source.name_of(place)}\n".encode())
    read_as = {"dataset": data.dataset, "unreadable": data.get("unreadable") or "stop"}
    if cfg.images is None:
        read_as |= {key: data.get(key) for key in ("format", "color", "crop_to_box")}
        given = data.get(f"{cfg.split or 'val'}_path")
        if given is not None and Path(given).is_file():
            read_as["file"] = [str(Path(given).resolve()), Path(given).stat().st_mtime]
    return {
        "checkpoint": str(file),
        "changed": file.stat().st_mtime,
        "feature_type": cfg.feature_type,
        "source": str(source.root.resolve()) if source.root else source.name,
        "source_images": len(source.images),
        "source_names": names.hexdigest(),
        "read_as": read_as,
        "backbone": plain(network.cfg.get("backbone")),
        "format": cfg.format,
        "shard": cfg.shard,
        **network.images.as_config(),
    }


def _is_there(folder: VectorFolder, about: dict[str, Any]) -> bool:
    found = folder.index()
    if found is None:
        return False
    differing = [key for key, value in about.items() if found.get(key) != value]
    if differing:
        key = differing[0]
        raise ConfigError(
            f"folder={str(folder.path)!r}: its {INDEX} says {key}={found.get(key)!r}, and this is "
            f"{about[key]!r}; take another folder, or remove that one."
        )
    return folder.is_whole()


def _batches(cfg: DictConfig, source: Source, encoder: Encoder, skip: bool) -> Iterator[Vectors]:
    images = Readable(source.images, encoder.transform, skip)
    loader = DataLoader(
        images, batch_size=cfg.batch_size, num_workers=cfg.num_workers, collate_fn=_together
    )
    left_out = 0
    with tqdm(total=len(images), desc="vectors", unit="images") as bar:
        for places, batch, targets, skipped in loader:
            left_out += skipped
            bar.update(len(places) + skipped)
            if len(places):
                names = np.array([source.name_of(int(place)) for place in places])
                yield Vectors(encoder(batch).numpy(), names, places, targets)
    if left_out == len(images):
        raise ConfigError(f"{source.name}: none of the images can be read.")
    if left_out:
        say("left out", f"{left_out} images, which cannot be read")


def _together(read: list[Any]) -> tuple[Any, Any, Any, int]:
    """Places, images, classes, and how many are left out."""
    kept = [one for one in read if one is not None]
    places, images, targets = zip(*kept) if kept else ((), (), ())
    batch = torch.stack(images) if kept else torch.empty(0)
    return np.array(places, np.int64), batch, np.array(targets, np.int64), len(read) - len(kept)


def _draw(cfg: DictConfig, folder: VectorFolder, source: Source, encoder: Encoder) -> None:
    what = f"{cfg.feature_type} of {Path(cfg.pretrained_checkpoint).name}, {source.name}"
    images = (folder.index() or {})["images"]
    if cfg.picture and images < 3:
        say("picture", f"none: {images} images are too few")
    elif cfg.picture:
        some = spread(folder, images, cfg.picture)
        title = f"{what}: {len(some.files):,} of {images:,} images"
        file = folder.path / "features.png"
        drawn = draw_features(some.features, source.labels(some), title, file)
        say("picture", f"{file}: {' and '.join(drawn)}")
    if cfg.queries:
        file = folder.path / "neighbours.png"
        draw_contact_sheet(_sheet(cfg, folder, source, encoder), f"{what}: nearest by cosine", file)
        say("sheet", file)


def _sheet(
    cfg: DictConfig, folder: VectorFolder, source: Source, encoder: Encoder
) -> list[list[tuple[Any, str, str]]]:
    """Rows of a contact sheet: an image that was asked for, then its neighbours."""
    own = [_name_inside(query, source) for query in cfg.queries]
    inside: dict[str, tuple[Tensor, int]] = {}
    for shard in folder:
        for number in np.flatnonzero(np.isin(shard.files, own)):
            vector = torch.from_numpy(shard.features[number])
            inside[str(shard.files[number])] = (vector, int(shard.places[number]))
    vectors, asked = [], []
    for query, name in zip(cfg.queries, own):
        if name in inside:
            vector, place = inside[name]
            image = source.images[place][0]
        elif Path(query).expanduser().is_file():
            image = read_image(Path(query).expanduser(), query)
            vector = encoder(encoder.transform(image)[None])[0]
        else:
            raise ConfigError(f"queries: {query!r} is an image that cannot be read.")
        vectors.append(vector)
        asked.append((image, query, "asked for"))
    found = nearest(folder, torch.stack(vectors), cfg.neighbours, own)
    return [
        [query]
        + [
            (source.images[int(place)][0], str(name), f"{similarity:.3f}")
            for similarity, place, name in zip(*row)
            if similarity > -torch.inf
        ]
        for query, row in zip(asked, zip(*found))
    ]


def _name_inside(query: str, source: Source) -> str:
    """The name that an image would have among those of the source."""
    if source.root is not None:
        path = Path(query).expanduser()
        # As it is called first: an image may be a link to another one.
        for one, root in (
            (path.absolute(), source.root.absolute()),
            (path.resolve(), source.root.resolve()),
        ):
            if one.is_relative_to(root) and (root / one.relative_to(root)).is_file():
                return one.relative_to(root).as_posix()
    return query


def task(cfg: DictConfig) -> None:
    """The command's task."""
    folder = embed(cfg)
    index = folder.index() or {}
    parts = len(index["parts"])
    say("vectors", f"{folder.path}: {index['images']:,} in {parts} file{'s' * (parts != 1)}")


if __name__ == "__main__":
    commands.embed()
