"""``mixbt-knn``: weighted k-nearest-neighbour accuracy of a checkpoint, on any device."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection
from itertools import product
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from mixbt_plugin.apps import commands, training
from mixbt_plugin.apps.features import extract_features
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.schema import check_knn
from mixbt_plugin.apps.weights import BackboneAlone, Pretrained, load_pretrained
from mixbt_plugin.checkpoints import written_whole
from mixbt_plugin.data import SOURCES, check_data, existing_path, has_training_labels, properties
from mixbt_plugin.evaluation import KNNScores, knn_scores
from mixbt_plugin.registry import register
from mixbt_plugin.settings import ConfigError, plain

NO_PROJECTOR = "feature_type='projector': there is no projector; take feature_type=[backbone]."
USUALLY = {"format": "image_folder", "color": False, "crop_to_box": True, "unreadable": "stop"}
Row = dict[str, Any]


def knn(cfg: DictConfig) -> list[Row]:
    """Evaluates a checkpoint for every combination of the config's lists.

    Where the training images of ``custom`` have no labels (``data.no_labels`` of pre-training, and
    no other ``data.train_path``), each validation image is classified by the others: leave-one-out.

    Args:
        cfg: ``pretrained_checkpoint``, ``k``, ``temperature`` (cosine only),
            ``distance_function``, ``feature_type``, ``batch_size``, ``num_workers``,
            ``accelerator``, and ``data``, whose keys replace those of pre-training unless null;
            for files of other codes ``backbone`` too, as `load_pretrained` says.

    Returns:
        A row for each combination: what was evaluated, on which epoch of pre-training, which split
        and which images, the settings, and the scores of `KNNScores` in percent.

    Raises:
        FileNotFoundError: the checkpoint or ``args.json`` beside it is missing.
        ValueError: a key is missing or has a value that cannot be used.
    """
    register()
    check_knn(cfg)
    device = training.device_of(cfg)
    pretrained = load_pretrained(cfg)
    if has_training_labels(pretrained.cfg):
        check_data(pretrained.cfg)
    else:
        existing_path(pretrained.cfg, "data.val_path")
    alone = isinstance(pretrained.model, BackboneAlone)
    if alone and "projector" in cfg.feature_type:
        raise ConfigError(NO_PROJECTOR)
    say("input", pretrained.images)
    features = extract_features(
        pretrained.model,
        pretrained.cfg,
        pretrained.images,
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
        device=device,
    )
    labelled = has_training_labels(pretrained.cfg)
    labels = {
        "evaluation": "kNN" if labelled else "kNN, leave-one-out",
        **labels_of(pretrained, Path(cfg.pretrained_checkpoint)),
    }
    rows = []
    there = len(features.train.targets if features.train else features.test.targets) - 1
    there += features.train is not None  # an image is not its own neighbour
    if there < 1:
        raise ConfigError("data.val_path: each image is classified by the others; there is one.")
    counts = list(dict.fromkeys(min(k, there) for k in cfg.k))
    if counts != list(cfg.k):
        say("k", f"at most {there}: there are no more neighbours")
    for kind, distance, k in product(cfg.feature_type, cfg.distance_function, counts):
        if kind not in features.test.features:
            raise ConfigError(NO_PROJECTOR)
        for temperature in cfg.temperature if distance == "cosine" else [None]:
            scores = knn_scores(
                features.test.labelled(kind),
                features.train and features.train.labelled(kind),
                k=k,
                distance=distance,
                temperature=temperature or 1.0,
            )
            rows.append(
                {
                    **labels,
                    "features": kind,
                    "distance": distance,
                    "k": k,
                    "temperature": temperature,
                    **{name: round(score, 2) for name, score in scores._asdict().items()},
                }
            )
    return rows


def labels_of(pretrained: Pretrained, checkpoint: Path) -> Row:
    """What every row says of the number in it; of other codes' files the epoch is not known."""
    data, epoch, epochs = pretrained.cfg.data, pretrained.epochs, pretrained.cfg.get("max_epochs")
    which = "unknown" if epoch is None else "last" if epoch == epochs else "intermediate"
    in_a_package, labelled = data.dataset in SOURCES, has_training_labels(pretrained.cfg)
    return {
        "mode": "offline",
        "checkpoint": checkpoint.name,
        "which": which,
        "epoch": epoch,
        "epochs": epochs,
        "dataset": data.dataset,
        "split": properties(data.dataset).split,
        "train_path": data.get("train_path") if labelled and not in_a_package else None,
        "val_path": data.get("val_path") if not in_a_package else None,
        "read_as": _read_as(data),
        "backbone": _backbone(pretrained.cfg),
        **pretrained.images.labels(),
    }


def _read_as(data: DictConfig) -> str | None:
    """What of ``data`` changes the images beside their size, where it is not the usual."""
    said = {key: data.get(key) for key in USUALLY}
    differing = [f"{key}={one}" for key, one in said.items() if one not in (None, USUALLY[key])]
    return " ".join(differing) or None


def _backbone(cfg: DictConfig) -> str:
    kwargs = plain(cfg.backbone.get("kwargs"))
    return f"{cfg.backbone.name} {json.dumps(kwargs)}" if kwargs else str(cfg.backbone.name)


def add_to_table(
    table: Path, rows: list[Row], numbers: Collection[str] = KNNScores._fields
) -> None:
    """Writes rows into a CSV file, in place of those that say the same of other numbers.

    Args:
        table: rows of other images, data sets, checkpoints and settings stay in it.
        rows: with equal keys.
        numbers: the keys of what was found.
    """

    def identity(row: dict[str, str]) -> list[tuple[str, str]]:
        """What a row says apart from its numbers, and from who chose the images."""
        return sorted(one for one in row.items() if one[0] not in (*numbers, "images_as"))

    new = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    replaced = [identity(row) for row in new]
    kept: list[dict[str, str]] = []
    if table.is_file():
        with table.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if identity(row) not in replaced]
    with written_whole(table) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*kept, *new])


def task(cfg: DictConfig) -> None:
    """The command's task."""
    torch.manual_seed(0)
    rows = knn(cfg)
    labels = rows[0]
    counted = f" ({labels['epoch']} of {labels['epochs']})" if labels["epoch"] else ""
    print(
        f"{labels['evaluation']}, offline, {labels['which']} epoch{counted}, "
        f"{labels['split']} split of {labels['dataset']}"
    )
    columns = ("features", "distance", "k", "temperature", *KNNScores._fields)
    print("".join(f"{key:>14}" for key in columns))
    for row in rows:
        print("".join(f"{'-' if row[key] is None else row[key]:>14}" for key in columns))
    table = Path(cfg.pretrained_checkpoint).parent / "knn.csv"
    add_to_table(table, rows)
    print(f"written to {table}")


if __name__ == "__main__":
    commands.knn()
