"""Small comparisons of the photographs' patches."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from mixbt_plugin.apps.comparison.arms import check_arms
from mixbt_plugin.apps.comparison.plan import Run, epochs_within, plan_runs
from mixbt_plugin.apps.schema import checked_comparison
from tests.apps.composing import composed

SMALL = (
    *("precision=32", "+backbone.kwargs.width=8", "optimizer.batch_size=64", "view.crop_size=8"),
    *("method_kwargs.proj_hidden_dim=16", "method_kwargs.proj_output_dim=16"),
    *("data.num_workers=0", "data.augment=batch", "limit_train_batches=2"),
)
PROBES: dict[str, Any] = {"knn_k": 5, "labels_per_class": 3, "draws": 1, "linear_labels": 100}


def comparison(**changes: Any) -> Any:
    """Two arms of one epoch; a change's name has two underscores for a dot."""
    cfg = composed("compare/mnist5k.yaml")
    OmegaConf.set_struct(cfg, False)
    changed = {"title": "Patches.", "output_dir": "out", "seeds": [1], "overrides": list(SMALL)}
    cfg.update({**changed, "arms": arms("barlow_twins", "mixbt"), "jobs": 1})
    OmegaConf.update(cfg, "evaluation", {**PROBES, "epochs": 1})
    OmegaConf.update(cfg, "budget", {"unit": "epochs", "amount": 1})
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, merge=False)
    return cfg


def arms(*methods: str) -> dict[str, Any]:
    """An arm for each method, named like it."""
    return {name: {"config": f"pretrain/photo_patches/{name}"} for name in methods}


def planned(**changes: Any) -> list[Run]:
    """The runs of such a comparison, each written into its folder."""
    asked = checked_comparison(comparison(**changes))
    checked = check_arms(asked)
    runs = plan_runs(asked, checked, epochs_within(asked, checked, {}))
    for run in runs:
        run.write()
    return runs
