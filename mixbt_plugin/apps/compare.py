"""``mixbt-compare``: pre-trains several methods with one budget and sets them side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import seed_everything
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps import commands
from mixbt_plugin.apps.command import find_folder
from mixbt_plugin.apps.features import Features, extract_features
from mixbt_plugin.apps.results import RESULTS_FILE
from mixbt_plugin.apps.weights import load_method
from mixbt_plugin.data import SOURCES, NetworkImages, properties
from mixbt_plugin.evaluation import knn_scores
from mixbt_plugin.host import METHODS
from mixbt_plugin.registry import register

Row = dict[str, Any]
DRAWS = 5


def compare(cfg: DictConfig) -> list[Row]:
    """Pre-trains each method for each seed, and evaluates all with the same probes.

    Args:
        cfg: ``title``; ``output_dir``; ``config_path`` and ``methods``, the names of the configs
            in it; ``seeds``; ``overrides``, applied to each run; ``knn`` with ``k`` and
            ``temperature``; ``labels_per_class`` of the probe with few labels.

    Returns:
        A row for the pixels, one for the untrained network, and one for each method; accuracies
        in percent, means over the seeds. Every one is offline, of the last epoch. ``results.json``
        in ``output_dir`` has them by seed, with these labels, and the first seed's online kNN.

    Raises:
        ValueError: a key is missing or has a value that cannot be used.
    """
    register()
    _check(cfg)
    output = Path(cfg.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Row]] = {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for seed in cfg.seeds:
        for method in cfg.methods:
            seconds, checkpoint = _pretrain(cfg, method, seed, output)
            model, run_cfg, _, images = load_method(checkpoint)
            if method == cfg.methods[0]:
                seed_everything(seed)
                untrained = METHODS[run_cfg.method](run_cfg).eval()
                _say("evaluating the pixels and the untrained network")
                pixels = _Pixels(grey=_is_grey(run_cfg))
                rows.setdefault("raw pixels", []).append(_evaluate(pixels, run_cfg, images, cfg))
                rows.setdefault("untrained", []).append(_evaluate(untrained, run_cfg, images, cfg))
            _say(f"evaluating {method}")
            row = {**_evaluate(model, run_cfg, images, cfg), "seconds": seconds}
            rows.setdefault(method, []).append(row)
            curves.setdefault(method, _online_knn(checkpoint.parent / "metrics.csv"))
    summary = [{"features": name, **_mean(several)} for name, several in rows.items()]
    labels = {
        "mode": "offline",
        "which": "last",
        "dataset": run_cfg.data.dataset,
        "split": properties(run_cfg.data.dataset).split,
        "seeds": list(cfg.seeds),
        **images.labels(),
    }
    results = {"labels": labels, "rows": rows, "online_knn_of_the_first_seed": curves}
    (output / RESULTS_FILE).write_text(json.dumps(results, indent=2))
    return summary


def _check(cfg: DictConfig) -> None:
    if not cfg.methods or not cfg.seeds:
        raise ValueError("methods and seeds: expected at least one of each.")
    for key in ("labels_per_class", "knn.k"):
        if (value := OmegaConf.select(cfg, key)) < 1:
            raise ValueError(f"{key}={value}: expected at least 1.")
    if cfg.knn.temperature <= 0:
        raise ValueError(f"knn.temperature={cfg.knn.temperature}: expected more than 0.")
    folder = find_folder(cfg.config_path, "pretrain")
    for method in cfg.methods:
        if not (folder / f"{method}.yaml").is_file():
            raise ValueError(f"methods: {method!r} is not the name of a config in {folder}.")


def _is_grey(run_cfg: DictConfig) -> bool:
    return run_cfg.data.dataset in SOURCES and not run_cfg.data.get("color", False)


def _pretrain(cfg: DictConfig, method: str, seed: int, output: Path) -> tuple[float, Path]:
    folder = output / "runs" / f"{method}-seed{seed}"
    command = [
        *(sys.executable, "-m", "mixbt_plugin.apps.pretrain"),
        *("--config-path", cfg.config_path, "--config-name", method),
        *(f"seed={seed}", f"checkpoint.dir={folder}"),
        *cfg.overrides,
    ]
    _say(f"pre-training {method}, seed {seed}: mixbt-pretrain {' '.join(command[3:])}")
    start = time.monotonic()
    subprocess.run(command, check=True)
    seconds = time.monotonic() - start
    newest = max(folder.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    return seconds, newest


class _Pixels(torch.nn.Module):
    """The image itself as features; of a grey one the first channel."""

    def __init__(self, grey: bool) -> None:
        super().__init__()
        self.channels = 1 if grey else 3

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"feats": images[:, : self.channels].flatten(1)}


def _evaluate(model: Any, run_cfg: DictConfig, images: NetworkImages, cfg: DictConfig) -> Row:
    features = extract_features(model, run_cfg, images)
    knn = knn_scores(
        features.test.labelled("backbone"),
        features.train and features.train.labelled("backbone"),
        k=cfg.knn.k,
        temperature=cfg.knn.temperature,
    )
    train, train_targets, test, test_targets = _scaled(features)
    few = [
        _logistic_regression(train[chosen], train_targets[chosen], test, test_targets)
        for chosen in (
            _few_labels(train_targets, cfg.labels_per_class, draw) for draw in range(DRAWS)
        )
    ]
    return {
        "knn": knn.acc1,
        "linear": _logistic_regression(train, train_targets, test, test_targets),
        "few_labels": float(np.mean(few)),
    }


def _scaled(features: Features) -> tuple[NDArray[Any], ...]:
    from sklearn.preprocessing import StandardScaler

    assert features.train, "a comparison is of labelled images"
    train, test = features.train.labelled("backbone"), features.test.labelled("backbone")
    scaler = StandardScaler().fit(train.features.numpy())
    return (
        scaler.transform(train.features.numpy()),
        train.targets.numpy(),
        scaler.transform(test.features.numpy()),
        test.targets.numpy(),
    )


def _few_labels(targets: NDArray[Any], per_class: int, draw: int) -> NDArray[Any]:
    fewest = min(np.bincount(targets))
    if fewest < per_class:
        raise ValueError(f"labels_per_class={per_class}: a class has only {fewest} images.")
    generator = np.random.default_rng(draw)
    return np.concatenate(
        [
            generator.choice(np.flatnonzero(targets == label), per_class, replace=False)
            for label in np.unique(targets)
        ]
    )


def _logistic_regression(
    train: NDArray[Any], targets: NDArray[Any], test: NDArray[Any], test_targets: NDArray[Any]
) -> float:
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(C=0.1, max_iter=500).fit(train, targets)
    return 100 * float(probe.score(test, test_targets))


def _online_knn(metrics: Path) -> list[tuple[int, float]]:
    table = np.genfromtxt(metrics, delimiter=",", names=True)
    if "val_knn_acc1" not in (table.dtype.names or ()):
        return []
    scored = ~np.isnan(table["val_knn_acc1"])
    return [(int(epoch) + 1, float(acc)) for epoch, acc in table[["epoch", "val_knn_acc1"]][scored]]


def _mean(several: list[Row]) -> Row:
    return {key: float(np.mean([row[key] for row in several])) for key in several[0]}


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def markdown(rows: list[Row], cfg: DictConfig) -> str:
    """The table of a comparison whose results are written."""
    labels = json.loads((Path(cfg.output_dir) / RESULTS_FILE).read_text())["labels"]
    seeds = ", ".join(map(str, cfg.seeds))
    columns = {
        "features": "features",
        "knn": f"kNN (k={cfg.knn.k}, T={cfg.knn.temperature})",
        "linear": "linear probe, all labels",
        "few_labels": f"linear probe, {cfg.labels_per_class} labels a class",
        "seconds": "seconds",
    }
    lines = [
        f"{cfg.title} Accuracy in % on the {labels['split']} split, offline, last epoch, seed(s) "
        f"{seeds}; few labels: mean of {DRAWS} draws.",
        "",
        "| " + " | ".join(columns.values()) + " |",
        "|---|" + "---:|" * (len(columns) - 1),
    ]
    for row in rows:
        cells = [row["features"], *(f"{row[key]:.1f}" for key in list(columns)[1:4])]
        cells.append(f"{row['seconds']:.0f}" if "seconds" in row else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: list[Row], cfg: DictConfig, output: Path) -> None:
    """Draws the accuracies as bars and the online kNN by epoch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    results = json.loads((output / RESULTS_FILE).read_text())
    curves, split = results["online_knn_of_the_first_seed"], results["labels"]["split"]
    figure, (bars, lines) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    names = [row["features"] for row in rows]
    labels = {
        "few_labels": f"{cfg.labels_per_class} labels a class",
        "linear": "all labels",
    }
    for offset, (key, label) in enumerate(labels.items()):
        positions = np.arange(len(names)) + 0.4 * offset
        drawn = bars.bar(positions, [row[key] for row in rows], width=0.38, label=label)
        bars.bar_label(drawn, fmt="%.1f", fontsize=8)
    bars.set_xticks(np.arange(len(names)) + 0.2, names)
    bars.set_ylabel(f"linear probe, offline, last epoch, {split} accuracy in %")
    bars.set_ylim(0, 118)
    bars.legend(loc="upper left", ncols=2, frameon=False)
    for name, points in curves.items():
        if points:
            lines.plot(*zip(*points), marker=".", label=name)
    lines.set_xlabel("epoch")
    lines.set_ylabel(f"online kNN, seed {cfg.seeds[0]}, {split} accuracy in %")
    lines.legend(frameon=False)
    for axes in (bars, lines):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(cfg.title, fontsize=10)
    figure.savefig(output / "comparison.png", dpi=110)


def task(cfg: DictConfig) -> None:
    """The command's task."""
    rows = compare(cfg)
    output = Path(cfg.output_dir)
    table = markdown(rows, cfg)
    (output / "table.md").write_text(table + "\n")
    draw(rows, cfg, output)
    print(f"\n{table}\n\nTable, picture and runs are in {output.resolve()}")


if __name__ == "__main__":
    commands.compare()
