"""``mixbt-knn``: weighted k-nearest-neighbour accuracy of a checkpoint, on any device."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps import commands, training
from mixbt_plugin.apps.features import extract_features
from mixbt_plugin.apps.weights import Pretrained, load_pretrained
from mixbt_plugin.data import properties
from mixbt_plugin.evaluation import DISTANCES, KNNScores, LabelledFeatures, knn_scores
from mixbt_plugin.registry import register

FEATURES = ("backbone", "projector")


def knn(cfg: DictConfig) -> list[dict[str, Any]]:
    """Evaluates a checkpoint for every combination of the config's lists.

    Args:
        cfg: ``pretrained_checkpoint``, ``k``, ``temperature`` (cosine only),
            ``distance_function``, ``feature_type``, ``batch_size``, ``num_workers``,
            ``accelerator``, and ``data``, whose keys replace those of pre-training unless null;
            for files of other codes ``backbone`` too, as `load_pretrained` says.

    Returns:
        A row for each combination: what was evaluated, on which epoch of pre-training and which
        split, the settings, and the scores of `KNNScores` in percent.

    Raises:
        FileNotFoundError: the checkpoint or ``args.json`` beside it is missing.
        ValueError: a key is missing or has a value that cannot be used.
    """
    register()
    _check_choices("feature_type", cfg.feature_type, FEATURES)
    _check_choices("distance_function", cfg.distance_function, DISTANCES)
    if any(k < 1 for k in cfg.k):
        raise ValueError(f"k={list(cfg.k)}: expected numbers of at least 1.")
    if any(t <= 0 for t in cfg.temperature):
        raise ValueError(f"temperature={list(cfg.temperature)}: expected numbers above 0.")
    pretrained = load_pretrained(cfg)
    features = extract_features(
        pretrained.model,
        pretrained.cfg,
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
        device="cuda" if training.on_gpu(cfg) else "cpu",
    )
    labels = _labels(pretrained)
    rows = []
    for kind, distance, k in product(cfg.feature_type, cfg.distance_function, cfg.k):
        if kind not in features.train:
            raise ValueError(
                f"feature_type={kind!r}: there is no projector; take feature_type=[backbone]."
            )
        for temperature in cfg.temperature if distance == "cosine" else [None]:
            scores = knn_scores(
                LabelledFeatures(features.test[kind], features.test_targets),
                LabelledFeatures(features.train[kind], features.train_targets),
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


def _labels(pretrained: Pretrained) -> dict[str, Any]:
    """What every row says of the number in it; of other codes' files the epoch is not known."""
    _, cfg, epoch = pretrained
    epochs = cfg.get("max_epochs")
    which = "unknown" if epoch is None else "last" if epoch == epochs else "intermediate"
    return {
        "evaluation": "kNN",
        "mode": "offline",
        "dataset": cfg.data.dataset,
        "split": properties(cfg.data.dataset).split,
        "which": which,
        "epoch": epoch,
        "epochs": epochs,
    }


def _check_choices(key: str, values: Any, choices: tuple[str, ...]) -> None:
    for value in values:
        if value not in choices:
            raise ValueError(f"{key}={value!r}: expected of {', '.join(choices)}.")


def task(cfg: DictConfig) -> None:
    """The command's task."""
    torch.manual_seed(0)
    rows = knn(cfg)
    labels = rows[0]
    counted = f" ({labels['epoch']} of {labels['epochs']})" if labels["epoch"] else ""
    print(
        f"kNN, offline, {labels['which']} epoch{counted}, "
        f"{labels['split']} split of {labels['dataset']}"
    )
    columns = ("features", "distance", "k", "temperature", *KNNScores._fields)
    print("".join(f"{key:>14}" for key in columns))
    for row in rows:
        print("".join(f"{'-' if row[key] is None else row[key]:>14}" for key in columns))
    other = OmegaConf.select(cfg, "data.dataset")
    name = f"knn-{other}.csv" if other else "knn.csv"
    table = Path(cfg.pretrained_checkpoint).parent / name
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"written to {table}")


if __name__ == "__main__":
    commands.knn()
