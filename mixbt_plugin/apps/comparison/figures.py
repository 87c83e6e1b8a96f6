"""Pictures of a comparison: accuracies, terms of the loss and spectra, with bands over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixbt_plugin.apps.comparison.evaluator import SPECTRA_FILE
from mixbt_plugin.apps.comparison.measures import ACCURACIES
from mixbt_plugin.apps.comparison.plan import Run
from mixbt_plugin.apps.comparison.table import Measurements, budget_in_words
from mixbt_plugin.checkpoints import written_whole
from mixbt_plugin.keys import CompareConfig

NAMES = {"knn": "kNN", "linear": "linear probe", "few_labels": "linear probe, few labels"}
NOT_LOSSES = ("train_acc1", "train_acc5", "train_lamb_reg")


def draw(results: Measurements, runs: list[Run], comparison: CompareConfig, folder: Path) -> None:
    """Draws ``accuracy.png``, ``loss.png`` and ``spectra.png``.

    Lines are means over the seeds, bands a standard deviation to either side.
    """
    title = f"{comparison.title}\n{budget_in_words(results)}; seeds {_seeds(results)}"
    figures = {
        "accuracy": accuracy_figure(results, comparison, title),
        "loss": loss_figure(results, title),
        "spectra": _spectra(results, runs, title),
    }
    for name, figure in figures.items():
        if figure is not None:
            with written_whole(folder / f"{name}.png") as file:
                figure.savefig(file, dpi=110, format="png")


def _figure(rows: int, columns: int, title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, 1 + 2.7 * rows), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(rows, columns, squeeze=False)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def accuracy_figure(results: Measurements, comparison: CompareConfig, title: str) -> Any:
    """A row for each accuracy, against epochs and against seconds."""
    figure, axes = _figure(len(ACCURACIES), 2, f"{title}; on {results.split}")
    clock = "" if comparison.budget.clock == "wall" else " (of a core)"
    horizontal = {"epoch": "epoch", "seconds": f"seconds of training{clock}"}
    for row, measure in zip(axes, ACCURACIES):
        pixels = results.pixels[measure]
        starts = {name: each.mean() for name, each in results.beginnings(measure).items()}
        for panel, (x, label) in zip(row, horizontal.items()):
            for arm, color in _colors(results):
                # Where all begin would hide how little they differ in the end.
                trained = _over_seeds(results, measure, arm, x).iloc[1:]
                _band(panel, trained, arm, color)
            shown = panel.get_ylim()
            panel.axhline(pixels, color="grey", ls="dotted", lw=1)
            for value in starts.values():
                panel.axhline(value, color="grey", ls="dashed", lw=1)
            panel.set_ylim(shown)
            panel.set_xlabel(label)
        dashed = "; ".join(f"{name} {value:.1f}" for name, value in starts.items())
        beside = f"raw pixels {pixels:.1f} (dotted), {dashed} (dashed)"
        row[0].set_title(beside, fontsize=8, loc="left")
        row[0].set_ylabel(f"{NAMES[measure]}, %")
        row[1].sharey(row[0])
    _legend(figure, axes)
    return figure


def loss_figure(results: Measurements, title: str) -> Any:
    """A panel for each term that a method logs while it trains; None where there is none."""
    measures = dict.fromkeys(results.rows.measure)
    terms = [name for name in measures if name.startswith("train_") and name not in NOT_LOSSES]
    if not terms:
        return None
    columns = min(3, len(terms))
    figure, axes = _figure(-(-len(terms) // columns), columns, title)
    for panel, term in zip(axes.flat, terms):
        for arm, color in _colors(results):
            _band(panel, _over_seeds(results, term, arm, "epoch"), arm, color)
        panel.set_title(f"{term.removeprefix('train_')}, mean of the epoch", fontsize=8, loc="left")
        panel.set_xlabel("epoch")
        if (results.rows[results.rows.measure == term].value > 0).all():
            panel.set_yscale("log")
    for panel in axes.flat[len(terms) :]:
        panel.remove()
    _legend(figure, axes)
    return figure


def _spectra(results: Measurements, runs: list[Run], title: str) -> Any:
    figure, axes = _figure(1, 2, title)
    labels = {"features": "covariance of the features", "embeddings": "embeddings' correlation"}
    for panel, (key, label) in zip(axes[0], labels.items()):
        for arm, color in _colors(results):
            files = [run.folder / SPECTRA_FILE for run in runs if run.arm == arm and run.is_done()]
            found = [spectra[key] for file in files if key in (spectra := np.load(file))]
            if found:
                table = pd.DataFrame(found).T
                table.index += 1
                _band(panel, table, arm, color)
        panel.set(xscale="log", yscale="log", ylim=(1e-7, 1), xlabel="rank")
        panel.set_title(f"eigenvalues of the {label}, last epoch", fontsize=8, loc="left")
    axes[0, 0].set_ylabel("share of the sum")
    _legend(figure, axes)
    return figure


def _over_seeds(results: Measurements, measure: str, arm: str, x: str) -> pd.DataFrame:
    """A measure by epoch (rows) and seed (columns); the rows' names are the mean of ``x``."""
    rows = results.rows[(results.rows.measure == measure) & (results.rows.arm == arm)]
    table = rows.pivot(index="epoch", columns="seed", values="value")
    table.index = rows.groupby("epoch")[x].mean()
    return table


def _band(panel: Any, table: pd.DataFrame, label: str, color: str) -> None:
    if table.empty:
        return
    mean, deviation = table.mean(axis=1), table.std(axis=1).fillna(0)
    dot = "." if len(table) == 1 else ""  # a line of one point is none
    panel.plot(mean.index, mean, color=color, lw=1.3, marker=dot, label=label)
    panel.fill_between(mean.index, mean - deviation, mean + deviation, color=color, alpha=0.2, lw=0)


def _legend(figure: Any, axes: Any) -> None:
    """One for all panels, below them, where it hides no curve."""
    lines = [panel.get_legend_handles_labels() for panel in axes.flat]
    named = {label: handle for each in lines for handle, label in zip(*each)}
    style = {"frameon": False, "fontsize": 8, "ncols": 5}
    figure.legend(list(named.values()), list(named), loc="outside lower center", **style)


def _colors(results: Measurements) -> Iterator[tuple[str, str]]:
    return ((arm, f"C{place % 10}") for place, arm in enumerate(results.arms))


def _seeds(results: Measurements) -> str:
    seeds = sorted({int(seed) for arm in results.arms for seed in results.spent(arm).index})
    return ", ".join(map(str, seeds))
