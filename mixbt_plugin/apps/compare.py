"""``mixbt-compare``: pre-trains arms over seeds with one budget and sets them side by side."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch.nn.functional import adaptive_avg_pool2d

from mixbt_plugin.apps import commands
from mixbt_plugin.apps.comparison.arms import Arm, check_arms, parsed
from mixbt_plugin.apps.comparison.figures import draw
from mixbt_plugin.apps.comparison.images import Batches, NetworkOutputs, evaluation_images
from mixbt_plugin.apps.comparison.measures import accuracies
from mixbt_plugin.apps.comparison.plan import (
    Run,
    epochs_within,
    plan_runs,
    refuse_other_runs,
    speed_runs,
)
from mixbt_plugin.apps.comparison.running import LOG_FILE, Failure, train_all
from mixbt_plugin.apps.comparison.table import Measurements, collect, markdown, write_csv
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.schema import checked_comparison
from mixbt_plugin.checkpoints import written_whole
from mixbt_plugin.data import properties
from mixbt_plugin.keys import CompareConfig
from mixbt_plugin.settings import RunError, plain

PIXELS_FILE = "pixels.json"
TABLE_FILE = "table.md"
PIXELS_SIDE = 32
"""Raw pixels of larger images are measured at this size: whole, they would fill the memory."""


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
    output, jobs, threads = Path(comparison.output_dir), comparison.jobs, comparison.threads
    arms = check_arms(comparison)
    runs = plan_runs(comparison, arms, _epochs(comparison, arms))

    output.mkdir(parents=True, exist_ok=True)
    first = next(iter(arms.values())).cfg
    pixels = raw_pixels(first, comparison, output / PIXELS_FILE)
    split = split_in_words(first, comparison)

    def report() -> Measurements | None:
        results = collect(runs, pixels, split)
        if results is not None:
            write_csv(results, output / "results.csv")
            with written_whole(output / TABLE_FILE) as file:
                file.write_text(markdown(results, comparison) + "\n")
            draw(results, runs, comparison, output)
        return results

    failed = train_all(runs, output, jobs, threads, report)
    results = report()
    _require_done(failed)
    assert results is not None
    return results


def _epochs(comparison: CompareConfig, arms: dict[str, Arm]) -> dict[str, int]:
    """How many each arm trains for; for a budget of seconds its speed is measured first."""
    speed: dict[str, Run] = {}
    if comparison.budget.unit == "seconds":
        speed = speed_runs(comparison, arms)
        refuse_other_runs(comparison, arms)
        output = Path(comparison.output_dir)
        _require_done(train_all(list(speed.values()), output, comparison.jobs, comparison.threads))
    epochs = epochs_within(comparison, arms, speed)
    if comparison.budget.unit != "epochs":
        say("epochs", ", ".join(f"{name} {count}" for name, count in epochs.items()))
    return epochs


def _require_done(failed: list[Failure]) -> None:
    if failed:
        logs = "\n".join(f"  {each.run.folder / LOG_FILE}" for each in failed)
        raise RunError(f"{len(failed)} of the runs failed; see\n{logs}\n{failed[0].reason()}")


def raw_pixels(composed: DictConfig, comparison: CompareConfig, known: Path) -> dict[str, float]:
    """Accuracies of the first arm's images themselves, in evaluation size."""
    cfg = parsed(composed)
    asked = comparison.evaluation.model_dump(exclude={"epochs"})
    of = {"evaluation": asked, "data": plain(cfg.data), "view": plain(cfg.augmentations[0])}
    if known.is_file():
        content: dict[str, Any] = json.loads(known.read_text())
        if content.get("of") == of:
            found: dict[str, float] = content["accuracies"]
            return found
    if comparison.threads:
        torch.set_num_threads(comparison.threads)
    images = evaluation_images(cfg, comparison.evaluation)
    references, classified = (
        pixels_as_features(Batches(each, cfg.data.num_workers))
        for each in (images.references, images.classified)
    )
    found = accuracies(references, classified, comparison.evaluation)
    with written_whole(known) as file:
        file.write_text(json.dumps({"of": of, "accuracies": found}))
    return found


def pixels_as_features(batches: Batches) -> NetworkOutputs:
    """Images as vectors, grey ones of one channel, none of more than `PIXELS_SIDE` a side."""
    images, targets = (torch.cat(parts) for parts in zip(*map(_small, batches)))
    grey = bool((images[:, :1] == images).all())
    return NetworkOutputs(images[:, : 1 if grey else 3].flatten(1), None, targets)


def _small(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = batch
    height, width = (min(side, PIXELS_SIDE) for side in images.shape[-2:])
    return adaptive_avg_pool2d(images, (height, width)), targets


def split_in_words(cfg: DictConfig, comparison: CompareConfig) -> str:
    """Which images are classified."""
    name = cfg.data.dataset
    if comparison.evaluation.split == "validation":
        return f"a sixth of the training images of {name}, held out"
    return f"the {properties(name).split} split of {name}"


def task(cfg: DictConfig) -> None:
    """The command's task."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    compare(cfg)
    output = Path(cfg.output_dir).resolve()
    print(f"\n{(output / TABLE_FILE).read_text()}\nTable, pictures and runs are in {output}")


def _stop(number: int, _: object) -> None:
    say("stopped", "the same command goes on")
    sys.exit(128 + number)


if __name__ == "__main__":
    commands.compare()
