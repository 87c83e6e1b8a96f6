"""The watch over a training: what it measures, that it changes nothing, when it warns."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from omegaconf import DictConfig
from PIL import Image

from mixbt_plugin.apps.diagnose import diagnose
from mixbt_plugin.apps.knn import knn
from mixbt_plugin.apps.measuring import left_as_it_is
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.apps.validation import LEFT_OUT
from mixbt_plugin.apps.watching import ACCURACY, RANK, Watch
from mixbt_plugin.checkpoints import read_checkpoint
from mixbt_plugin.diagnostics import Measured
from tests.apps.composing import composed
from tests.images import image_folder

WATCHED = ("++diagnostics.enabled=true", "++diagnostics.images=70")


def run(folder: str, *overrides: str, method: str = "mixbt") -> Path:
    """Three epochs of four batches of real digits, in the folder."""
    cfg: DictConfig = composed(
        f"pretrain/mnist5k/{method}",
        *("max_epochs=3", "++limit_train_batches=4", "++limit_val_batches=2"),
        *("optimizer.batch_size=32", "++backbone.kwargs.width=8", "data.num_workers=0"),
        *("method_kwargs.proj_hidden_dim=16", "++method_kwargs.proj_output_dim=16"),
        *("accelerator=cpu", "precision=32", "scheduler.warmup_epochs=0"),
        *(f"checkpoint.dir={folder}", *overrides),
    )
    return pretrain(cfg)


def logged(folder: Path) -> dict[str, list[float]]:
    """The columns of a run's metrics, without the rows in which they are empty."""
    table: Any = np.atleast_1d(np.genfromtxt(folder / "metrics.csv", delimiter=",", names=True))
    return {name: [float(x) for x in table[name] if not np.isnan(x)] for name in table.dtype.names}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (checkpoint,) = folder.glob("*.ckpt")
    found: dict[str, torch.Tensor] = read_checkpoint(checkpoint)["state_dict"]
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(str(tmp_path_factory.mktemp("watched")), *WATCHED, "++diagnostics.keep_best=true")


def test_each_epoch_has_measures_of_features_and_embeddings(watched: Path) -> None:
    columns = logged(watched)
    for kind in ("features", "embeddings"):
        assert columns[f"{kind}_images"] == [64] * 3
        assert all(1 <= rank <= 64 for rank in columns[f"{kind}_rank_me"])
        assert len(columns[f"{kind}_lidar"]) == 3


def test_terms_of_the_loss_stand_beside_those_of_training(watched: Path) -> None:
    columns = logged(watched)
    for name in ("mixbt_loss", "barlow_loss", "reg_loss", "on_diag", "off_diag"):
        assert len(columns[f"held_out_{name}"]) == len(columns[f"train_{name}_epoch"]) == 3


def test_the_best_epoch_is_kept_where_no_resuming_looks(watched: Path) -> None:
    (best,) = (watched / "best").glob("*.ckpt")
    quality = logged(watched)[ACCURACY]
    assert best.name.endswith(f"-ep{int(np.argmax(quality))}.ckpt")
    assert (watched / "best" / "args.json").is_file()


def test_the_command_finds_in_the_checkpoint_what_the_run_logged(watched: Path) -> None:
    (checkpoint,) = watched.glob("*.ckpt")
    asked = (f"pretrained_checkpoint={checkpoint}", "count=64", "batch_size=9", "accelerator=cpu")
    rows = diagnose(composed("diagnose/default.yaml", *asked, "picture=false"))
    columns = logged(watched)
    assert [row["of"] for row in rows] == ["features", "embeddings"]
    for row in rows:
        assert (row["images"], row["views"], row["split"]) == (64, 2, "test")
        for name in list(row)[list(row).index("of") + 1 :]:
            online = columns[f"{row['of']}_{name}"][-1]
            assert row[name] == pytest.approx(online, rel=2e-4, nan_ok=True), name


@pytest.mark.slow
@pytest.mark.parametrize("method", ["barlow_twins", "multiaug_vicreg"])
def test_every_n_epochs_and_the_last_are_measured(method: str, tmp_path: Path) -> None:
    folder = run(str(tmp_path), *WATCHED, "++diagnostics.every_n_epochs=2", method=method)
    assert len(logged(folder)["features_rank_me"]) == 2


@pytest.mark.slow
def test_nothing_of_the_training_is_changed(watched: Path, tmp_path: Path) -> None:
    alone = weights(run(str(tmp_path)))
    for name, value in weights(watched).items():
        assert torch.equal(value, alone[name]), name


@pytest.mark.slow
def test_without_training_labels_each_validation_image_is_classified_by_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # as if not installed: it compiles itself
    images = image_folder(tmp_path / "images", per_class=4)
    folder = run(
        *(str(tmp_path), "data.dataset=custom", "++data.no_labels=true", "++data.in_memory=true"),
        *(f"++data.train_path={images / 'train'}", f"++data.val_path={images / 'val'}"),
        *("optimizer.batch_size=8", "++check_val_every_n_epoch=2", "++diagnostics.picture=20"),
        *("++diagnostics.enabled=true", "++diagnostics.images=8"),
    )
    online = logged(folder)[f"{LEFT_OUT}acc1"]
    (checkpoint,) = folder.glob("*.ckpt")
    asked = (f"pretrained_checkpoint={checkpoint}", "k=20", "feature_type=backbone")
    (offline,) = knn(
        composed("knn/default.yaml", *asked, "distance_function=cosine", "temperature=0.07")
    )
    assert len(online) == 2 and online[-1] == pytest.approx(offline["acc1"], abs=0.01)
    last, best = json.loads((folder / "results.json").read_text())
    assert last["evaluation"] == best["evaluation"] == "kNN, leave-one-out (k=20, cosine)"
    assert min(Image.open(folder / "features.png").size) > 300


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_a_training_is_watched_in_every_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """By the watch, by the kNN of what is left out, and in a picture."""
    monkeypatch.setitem(sys.modules, "umap", None)  # as if not installed: it compiles itself
    images = image_folder(tmp_path / "images", per_class=4)
    folder = run(
        *(str(tmp_path), "data.dataset=custom", "++data.no_labels=true", "max_epochs=1"),
        *(f"++data.train_path={images / 'train'}", f"++data.val_path={images / 'val'}"),
        *("optimizer.batch_size=8", "++limit_train_batches=1", f"precision={precision}"),
        *("++diagnostics.enabled=true", "++diagnostics.images=8", "++diagnostics.picture=8"),
    )
    columns = logged(folder)
    assert len(columns["features_rank_me"]) == len(columns[f"{LEFT_OUT}acc1"]) == 1
    assert (folder / "features.png").is_file()


def test_parts_are_in_their_own_modes_again() -> None:
    """A part that a method keeps in evaluation mode too."""
    module: Any = LightningModule()
    module.trained, module.frozen = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2).eval()
    with left_as_it_is(module):
        module.eval()
        module.frozen.train()
    assert module.training and module.trained.training and not module.frozen.training


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"diagnostics\.images=20: expected at least a batch"):
        run(str(tmp_path), "++diagnostics.enabled=true", "++diagnostics.images=20")


@pytest.mark.parametrize(
    "quality, values, text",
    [
        (ACCURACY, [70.0, 75, 75, 75, 75, 75, 73, 72, 71, 71, 71], "online kNN was best after"),
        (RANK, [90.0, 100, 100, 100, 100, 99, 80, 80, 80, 80, 80], "RankMe of the features was"),
        (ACCURACY, [70.0, 71, 72, 73, 74, 75, 75.5, 75.2, 75.4, 75.1, 75], ""),
    ],
    ids=["accuracy", "rank", "noise"],
)
def test_the_warning_says_what_fell(quality: str, values: list[float], text: str) -> None:
    watch = Watch(DictConfig({"diagnostics": {}}))
    watch.quality = quality
    watch.history = [Measured(epoch, value, 100 - epoch) for epoch, value in enumerate(values, 1)]
    assert text in watch.sentence()
    assert bool(watch.sentence()) == bool(text)
