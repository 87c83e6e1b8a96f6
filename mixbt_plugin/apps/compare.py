"""``mixbt-compare``: pre-trains arms over seeds with one budget and sets them side by side."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import torch
from omegaconf import DictConfig

from mixbt_plugin.apps import commands
from mixbt_plugin.apps.comparison.figures import draw
from mixbt_plugin.apps.comparison.images import Batches, NetworkOutputs, evaluation_images
from mixbt_plugin.apps.comparison.measures import accuracies
from mixbt_plugin.apps.comparison.plan import (
    Run,
    check_arms,
    epochs_within,
    parsed,
    plan_runs,
    speed_runs,
)
from mixbt_plugin.apps.comparison.running import LOG_FILE, train_all
from mixbt_plugin.apps.comparison.table import Measurements, collect, markdown, write_csv
from mixbt_plugin.apps.schema import checked_comparison
from mixbt_plugin.data import properties
from mixbt_plugin.keys import CompareConfig
from mixbt_plugin.settings import RunError

PIXELS_FILE = "pixels.json"


def compare(cfg: DictConfig) -> Measurements:
    """Trains and measures what of a comparison is not done yet.

    Args:
        cfg: composed; its keys are declared in `mixbt_plugin.keys.CompareConfig`.

    Returns:
        All that was measured. ``results.csv``, ``table.md`` and pictures are in ``output_dir``,
        and are renewed whenever a run has ended.

    Raises:
        ValueError: a key is missing or has a value that cannot be used; before anything starts.
        RunError: a run failed; the others have been trained nevertheless.
    """
    comparison = checked_comparison(cfg)
    configs = check_arms(comparison)
    jobs, threads = comparison.jobs, comparison.threads
    speed: dict[str, Run] = {}
    if comparison.budget.unit == "seconds":
        speed = speed_runs(comparison, configs)
        _require_done(train_all(list(speed.values()), jobs, threads, lambda: None))
    runs = plan_runs(comparison, configs, epochs_within(comparison, configs, speed))

    output = Path(comparison.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    first = next(iter(configs.values()))
    pixels = _pixels(first, comparison, output / PIXELS_FILE)
    split = split_in_words(first, comparison)

    def report() -> Measurements | None:
        results = collect(runs, pixels, split)
        if results is not None:
            write_csv(results, output / "results.csv")
            (output / "table.md").write_text(markdown(results, comparison) + "\n")
            draw(results, runs, comparison, output)
        return results

    failed = train_all(runs, jobs, threads, report)
    results = report()
    _require_done(failed)
    assert results is not None
    return results


def _require_done(failed: list[Run]) -> None:
    if failed:
        logs = "\n".join(f"  {run.folder / LOG_FILE}" for run in failed)
        last = (failed[0].folder / LOG_FILE).read_text().strip().splitlines()[-1:]
        raise RunError(f"{len(failed)} of the runs failed; see\n{logs}\n{''.join(last)}")


def _pixels(composed: DictConfig, comparison: CompareConfig, known: Path) -> dict[str, float]:
    """Accuracies of the first arm's images themselves, in evaluation size."""
    if known.is_file():
        found: dict[str, float] = json.loads(known.read_text())
        return found
    if comparison.threads:
        torch.set_num_threads(comparison.threads)
    cfg = parsed(composed)
    images = evaluation_images(cfg, comparison.evaluation)
    references, classified = (
        _as_features(Batches(each, cfg.data.num_workers))
        for each in (images.references, images.classified)
    )
    found = accuracies(references, classified, comparison.evaluation)
    known.write_text(json.dumps(found))
    return found


def _as_features(batches: Batches) -> NetworkOutputs:
    images, targets = (torch.cat(parts) for parts in zip(*batches))
    grey = bool((images[:, :1] == images).all())
    return NetworkOutputs(images[:, : 1 if grey else 3].flatten(1), None, targets)


def split_in_words(cfg: DictConfig, comparison: CompareConfig) -> str:
    """Which images are classified."""
    name = cfg.data.dataset
    if comparison.evaluation.split == "validation":
        return f"a sixth of the training images of {name}, held out"
    return f"the {properties(name).split} split of {name}"


def task(cfg: DictConfig) -> None:
    """The command's task."""
    # As Ctrl-C: the runs are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = compare(cfg)
    comparison = checked_comparison(cfg)
    print(f"\n{markdown(results, comparison)}\n")
    print(f"Table, pictures and runs are in {Path(cfg.output_dir).resolve()}")


if __name__ == "__main__":
    commands.compare()
