"""``mixbt-compare`` with other settings than the quick start's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mixbt_plugin.apps.compare import compare, draw, markdown
from tests.apps.composing import composed

SMALL = (
    *("max_epochs=2", "optimizer.batch_size=64", "data.num_workers=0", "data.color=true"),
    *("+backbone.kwargs.width=8", "limit_train_batches=2", "precision=32", "view.crop_size=8"),
)


@pytest.mark.slow
def test_another_method_data_set_and_two_seeds() -> None:
    cfg = composed(
        "compare/mnist5k.yaml",
        *("config_path=pretrain/photo_patches", "methods=[hsic_ssl]", "seeds=[1,2]"),
        *("knn={k: 5, temperature: 0.2}", "labels_per_class=3", "title=Patches."),
    )
    cfg.overrides = list(SMALL)
    rows = compare(cfg)
    assert [row["features"] for row in rows] == ["raw pixels", "untrained", "hsic_ssl"]
    results = json.loads(Path("quickstart/results.json").read_text())
    assert results["labels"] == {
        "mode": "offline",
        "which": "last",
        "dataset": "photo_patches",
        "split": "test",
        "seeds": [1, 2],
    }
    assert results["rows"]["raw pixels"][0] == results["rows"]["raw pixels"][1]
    for row in rows:
        several = results["rows"][row["features"]]
        for key in ("knn", "linear", "few_labels"):
            assert row[key] == pytest.approx(sum(one[key] for one in several) / 2)
            # 15 photographs: chance is 6.7 %.
            assert 10 < row[key] <= 100
    assert [epoch for epoch, _ in results["online_knn_of_the_first_seed"]["hsic_ssl"]] == [1, 2]

    table = markdown(rows, cfg)
    assert "on the test split, offline, last epoch, seed(s) 1, 2; few labels" in table
    assert (
        "| kNN (k=5, T=0.2) | linear probe, all labels | linear probe, 3 labels a class |" in table
    )
    assert len(re.findall(r"^\| [a-z]", table, re.MULTILINE)) == 4
    draw(rows, cfg, Path("quickstart"))
    assert Path("quickstart/comparison.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "override,message",
    [
        ("methods=[]", "methods and seeds: expected at least one of each"),
        ("methods=[mixbtt]", "methods: 'mixbtt' is not the name of a config in .*mnist5k"),
        ("labels_per_class=0", "labels_per_class=0: expected at least 1"),
        ("knn.k=0", "knn.k=0: expected at least 1"),
        ("knn.temperature=0", "knn.temperature=0: expected more than 0"),
    ],
)
def test_refusals_come_before_training(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(composed("compare/mnist5k.yaml", override))
    assert not Path("quickstart").exists()
