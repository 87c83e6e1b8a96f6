"""Table, pictures and raw pixels of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mixbt_plugin.apps import compare
from mixbt_plugin.apps.compare import pixels_as_features, raw_pixels
from mixbt_plugin.apps.comparison.arms import check_arms
from mixbt_plugin.apps.comparison.evaluator import write_rows
from mixbt_plugin.apps.comparison.figures import accuracy_figure, loss_figure
from mixbt_plugin.apps.comparison.plan import Run
from mixbt_plugin.apps.comparison.table import Measurements, collect, markdown
from mixbt_plugin.apps.schema import checked_comparison
from tests.apps.comparing import arms, comparison

PIXELS = {"knn": 50.0, "linear": 51.0, "few_labels": 52.0}
ASKED = checked_comparison(comparison(arms=arms("barlow_twins", "mixbt")))


def measured(**runs: dict[str, Any]) -> Measurements:
    """A run of one seed for each arm: its accuracies before training and at the end, its loss,
    and what its config has beside a backbone. None stands for a run that is not done."""
    made = []
    for arm, said in runs.items():
        cfg = {"backbone": {"name": "resnet18"}, "augmentations": [{"crop_size": 8}]}
        cfg |= said.get("cfg", {})
        run = Run(Path(f"{arm}").resolve(), arm, 1, [0, 4], "wall", None, "", cfg)
        run.folder.mkdir()
        values = {
            (epoch, name): said["accuracies"][epoch > 0] for epoch in (0, 4) for name in PIXELS
        }
        values[4, "train_some_loss"] = said.get("loss", 1.0)
        rows = [
            {"arm": arm, "seed": 1, "epoch": epoch, "steps": epoch, "images": epoch, "seconds": 1.0}
            | {"measure": name, "value": value}
            for (epoch, name), value in values.items()
        ]
        write_rows(rows, run.folder / "measures.csv")
        if said.get("done", True):
            run.set_done()
        made.append(run)
    found = collect(made, PIXELS, "some images")
    assert found is not None
    return found


def test_without_the_first_arm_there_are_no_differences() -> None:
    """And never those to another arm."""
    results = measured(
        barlow_twins={"accuracies": (40.0, 60.0), "done": False},
        mixbt={"accuracies": (40.0, 61.0)},
    )
    table = markdown(results, ASKED)
    assert "last epoch | − barlow_twins |" in table
    assert "| mixbt | 1 | 61.0 |  | 61.0 | 4 |" in table
    assert table.endswith("Not there, or not yet: barlow_twins with seed 1.")


def test_differences_are_those_to_the_first_arm() -> None:
    results = measured(
        barlow_twins={"accuracies": (40.0, 60.0)}, mixbt={"accuracies": (40.0, 61.0)}
    )
    table = markdown(results, ASKED)
    assert "| mixbt | 1 | 61.0 | +1.0 | 61.0 | 4 |" in table
    assert "|  | untrained | 1 | 40.0 | | | |" in table and "Not there" not in table


@pytest.mark.parametrize(
    "other",
    [
        {"backbone": {"name": "resnet18", "kwargs": {"width": 8}}},
        {"augmentations": [{"crop_size": 16}]},
    ],
)
def test_each_untrained_network_has_a_row(other: dict[str, Any]) -> None:
    results = measured(
        barlow_twins={"accuracies": (40.0, 60.0)},
        mixbt={"accuracies": (30.0, 61.0), "cfg": other},
    )
    table = markdown(results, ASKED)
    assert "|  | untrained, barlow_twins | 1 | 40.0 | | | |" in table
    assert "|  | untrained, mixbt | 1 | 30.0 | | | |" in table


def test_a_network_that_was_given_weights_is_not_called_untrained() -> None:
    given = {"pretrained_feature_extractor": "a.ckpt"}
    table = markdown(measured(mixbt={"accuracies": (40.0, 60.0), "cfg": given}), ASKED)
    assert "|  | before training | 1 | 40.0 | | | |" in table and "untrained" not in table


def test_a_single_evaluation_is_seen() -> None:
    """As a point: a line of one is none."""
    figure = accuracy_figure(measured(mixbt={"accuracies": (40.0, 60.0)}), ASKED, "")
    assert figure.axes[0].lines[0].get_marker() == "."


@pytest.mark.parametrize("loss,scale", [(2.0, "log"), (-2.0, "linear")])
def test_a_loss_below_zero_is_seen(loss: float, scale: str) -> None:
    figure = loss_figure(measured(mixbt={"accuracies": (40.0, 60.0), "loss": loss}), "")
    assert figure.axes[0].get_yscale() == scale


def test_raw_pixels_are_measured_again_when_they_are_asked_for_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(**changes: Any) -> dict[str, float]:
        asked = checked_comparison(comparison(**changes))
        first = next(iter(check_arms(asked).values())).cfg
        return raw_pixels(first, asked, tmp_path / "pixels.json")

    before = found()
    assert found(evaluation__knn_k=200)["knn"] != before["knn"]
    kept = found()
    assert kept == before
    monkeypatch.setattr(compare, "accuracies", None)  # it is not asked again
    assert found(evaluation__epochs=[1], budget__amount=2) == kept


@pytest.mark.parametrize("side,features", [(8, 8 * 8), (40, 32 * 32)])
def test_pixels_of_large_images_are_those_of_small_ones(side: int, features: int) -> None:
    grey = torch.rand(2, 1, side, side).expand(-1, 3, -1, -1)
    batches: Any = [(grey, torch.tensor([0, 1]))]
    assert pixels_as_features(batches).features.shape == (2, features)


def test_an_empty_table_of_no_runs() -> None:
    assert collect([Run(Path("a"), "a", 1, [1], "wall", None, "", {})], PIXELS, "") is None
