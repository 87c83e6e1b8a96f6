"""What a comparison measured, as one table of rows, and what is concluded from it, in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from mixbt_plugin.apps.comparison.evaluator import COLUMNS, MEASURES_FILE
from mixbt_plugin.apps.comparison.measures import ACCURACIES
from mixbt_plugin.apps.comparison.plan import Run
from mixbt_plugin.checkpoints import written_whole
from mixbt_plugin.keys import CompareConfig
from mixbt_plugin.settings import plain

CONFIDENCE = 0.95


class Measurements(NamedTuple):
    """What the runs that are done have measured.

    Attributes:
        rows: a row a measurement, with the columns of `COLUMNS`.
        pixels: accuracies of the images themselves, by measure.
        arms: in their order, those with a run that is done, and the last epoch of each.
        starts: an arm for each network that arms begin with, by what it is called.
        missing: the runs that are not done, in words.
        split: which images were classified, in words.
    """

    rows: pd.DataFrame
    pixels: dict[str, float]
    arms: dict[str, int]
    starts: dict[str, str]
    missing: list[str]
    split: str

    def ends(self, measure: str, arm: str) -> pd.Series[float]:
        """A measure at the end of an arm's runs, by seed; empty of an arm that has none."""
        return self._at(measure, arm, self.arms.get(arm, 0))

    def beginnings(self, measure: str) -> dict[str, pd.Series[float]]:
        """A measure of the networks that arms begin with, by what they are called and seed."""
        return {name: self._at(measure, arm, 0) for name, arm in self.starts.items()}

    def bests(self, measure: str, arm: str) -> pd.DataFrame:
        """The best evaluation of each of an arm's runs, by seed."""
        rows = self._of(measure, arm).query("epoch > 0").reset_index(drop=True)
        return rows.loc[rows.groupby("seed").value.idxmax()].set_index("seed")

    def spent(self, arm: str) -> pd.DataFrame:
        """Epochs, steps, images and seconds of an arm's runs, by seed."""
        rows = self._of("knn", arm)
        last = rows.loc[rows.epoch == self.arms[arm]].set_index("seed")
        return last[["epoch", "steps", "images", "seconds"]]

    def _at(self, measure: str, arm: str, epoch: int) -> pd.Series[float]:
        rows = self._of(measure, arm)
        return rows.loc[rows.epoch == epoch].set_index("seed").value

    def _of(self, measure: str, arm: str) -> pd.DataFrame:
        return self.rows[(self.rows.measure == measure) & (self.rows.arm == arm)]


def collect(runs: list[Run], pixels: dict[str, float], split: str) -> Measurements | None:
    """All that the runs that are done have measured; None while there is none."""
    done = [run for run in runs if run.is_done()]
    if not done:
        return None
    rows = pd.concat([pd.read_csv(run.folder / MEASURES_FILE) for run in done])
    arms = {run.arm: run.epochs[-1] for run in runs if run.arm in set(rows.arm)}
    missing = [f"{run.arm} with seed {run.seed}" for run in runs if run not in done]
    return Measurements(rows, pixels, arms, _starts(done), missing, split)


def _starts(done: list[Run]) -> dict[str, str]:
    """One of the arms for each network before training: backbone, given weights, size of images."""
    arms: dict[str, tuple[str, bool]] = {}
    for run in done:
        cfg = OmegaConf.create(run.cfg)
        given = cfg.get("pretrained_feature_extractor")
        size = cfg.augmentations[0].crop_size
        arms.setdefault(repr((plain(cfg.backbone), given, size)), (run.arm, given is not None))
    return {
        ("before training" if trained else "untrained") + f", {arm}" * (len(arms) > 1): arm
        for arm, trained in arms.values()
    }


def write_csv(results: Measurements, path: Path) -> None:
    """All rows, those of the pixels first."""
    pixels = [
        {"arm": "raw pixels", "epoch": 0, "steps": 0, "images": 0, "measure": name, "value": value}
        for name, value in results.pixels.items()
    ]
    table = pd.concat([pd.DataFrame(pixels), results.rows])
    table["seed"] = table.seed.astype("Int64")
    with written_whole(path) as file:
        table[list(COLUMNS)].to_csv(file, index=False)


def markdown(results: Measurements, comparison: CompareConfig) -> str:
    """The tables of accuracies and of what was spent, with a line that says what they are of."""
    evaluation = comparison.evaluation
    names = {
        "knn": f"kNN (k={evaluation.knn_k}, T={evaluation.knn_temperature:g})",
        "linear": f"linear probe, {evaluation.linear_labels or 'all'} labels",
        "few_labels": f"linear probe, {evaluation.labels_per_class} labels a class",
    }
    first = next(iter(comparison.arms))
    lines = [
        f"{comparison.title} {budget_in_words(results)}. Accuracy in %, offline, on "
        f"{results.split}: mean ± standard deviation over seeds; difference of the same seeds to "
        f"{first} with its 95 % interval (Student's t); the best evaluated epoch is chosen on the "
        f"images that it is reported on. Few labels: mean of {evaluation.draws} draws.",
        "",
        f"| measure | arm | seeds | last epoch | − {first} | best | at epoch |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for measure in ACCURACIES:
        lines.append(f"| {names[measure]} | raw pixels |  | {results.pixels[measure]:.1f} | | | |")
        for name, values in results.beginnings(measure).items():
            lines.append(f"|  | {name} | {len(values)} | {mean_and_deviation(values)} | | | |")
        for arm in results.arms:
            last, best = results.ends(measure, arm), results.bests(measure, arm)
            difference = "" if arm == first else interval(last - results.ends(measure, first))
            cells: list[Any] = [
                *("", arm, len(last), mean_and_deviation(last), difference),
                *(mean_and_deviation(best.value), _range(best.epoch)),
            ]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| arm | epochs | steps | images seen | seconds of training |"]
    lines.append("|---|---:|---:|---:|---:|")
    for arm in results.arms:
        spent = results.spent(arm)
        numbers = [_range(spent[key]) for key in ("epoch", "steps", "images")]
        seconds = mean_and_deviation(spent.seconds, digits=0)
        lines.append(f"| {arm} | {' | '.join(numbers)} | {seconds} |")
    if results.missing:
        lines += ["", f"Not there, or not yet: {', '.join(results.missing)}."]
    return "\n".join(lines)


def mean_and_deviation(values: pd.Series[Any], digits: int = 1) -> str:
    """``80.1 ± 0.3``; of one value no deviation."""
    deviation = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}" if len(values) else ""


def interval(differences: pd.Series[float]) -> str:
    """``+1.2 [+0.4, +2.0]``: mean and 95 % interval of paired differences."""
    from scipy import stats

    paired = differences.dropna()
    if len(paired) < 2:
        return f"{paired.mean():+.1f}" if len(paired) else ""
    error = paired.std() / np.sqrt(len(paired))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(paired) - 1) * error
    return f"{paired.mean():+.1f} [{paired.mean() - half:+.1f}, {paired.mean() + half:+.1f}]"


def budget_in_words(results: Measurements) -> str:
    """What the runs have spent: ``400 epochs, 9,200 steps, … of training``."""
    spent = pd.concat([results.spent(arm) for arm in results.arms])
    numbers = [_range(spent[key]) for key in ("epoch", "steps", "images")]
    low, high = (_duration(spent.seconds.agg(edge)) for edge in ("min", "max"))
    time = low if low == high else f"{low} to {high}"
    return f"{numbers[0]} epochs, {numbers[1]} steps, {numbers[2]} images seen, {time} of training"


def _range(values: pd.Series[Any]) -> str:
    low, high = values.min(), values.max()
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
