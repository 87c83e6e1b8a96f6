"""The example of a method in a package of its own, installed and trained like any other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes

EXAMPLE = Path(__file__).parents[2] / "examples" / "spectral_contrastive"
NAME = "spectral_contrastive"
SMALL = (
    *("max_epochs=1", "optimizer.batch_size=64", "limit_train_batches=2", "limit_val_batches=2"),
    *("data.num_workers=0", "+backbone.kwargs.width=8", "accelerator=cpu", "checkpoint.dir=models"),
)


def python(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def run(command: str, *words: str) -> str:
    return processes.run(f"mixbt_plugin.apps.{command}", *words).stdout


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example in a folder on the import path, as pip leaves it."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source)
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target")
    python(*pip, str(site), str(source))
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ['PYTHONPATH']}")


def test_it_is_as_short_as_it_says() -> None:
    code = (EXAMPLE / f"{NAME}.py").read_text().splitlines()
    assert len(code) <= 30
    assert len((EXAMPLE / "configs" / f"{NAME}.yaml").read_text().splitlines()) <= 15


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_our_commands_know_it() -> None:
    config = ("--config-path", str(EXAMPLE / "configs"), "--config-name", NAME)
    run("pretrain", *config, *SMALL)
    (checkpoint,) = Path("models").rglob("*.ckpt")
    knn = run("knn", f"pretrained_checkpoint={checkpoint}", "k=[1]")
    assert "backbone" in knn
    linear = run(
        *("linear", "--config-path", "linear", "--config-name", "mnist5k"),
        *(f"pretrained_feature_extractor={checkpoint}", *SMALL),
    )
    assert "linear, offline, last epoch" in linear


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_it_is_compared() -> None:
    config = EXAMPLE / "configs" / NAME
    steps = ("optimizer.batch_size=2000", "data.num_workers=0", "+backbone.kwargs.width=8")
    run(
        *("compare", "--config-name", "mnist5k", "output_dir=compared"),
        *("~arms.mixbt", "~arms.barlow_twins", f"+arms.theirs.config={config}"),
        f"overrides={list(steps)}",
        *("seeds=[1]", "budget.amount=1", "evaluation.epochs=1", "evaluation.linear_labels=100"),
    )
    assert "theirs" in (Path("compared") / "table.md").read_text()


@pytest.mark.slow
@pytest.mark.solo_learn
@pytest.mark.usefixtures("installed")
def test_solo_learns_own_script_knows_it(checkout: Path, tmp_path: Path) -> None:
    from tests.images import image_folder
    from tests.plugin.test_stock_solo_learn import overrides

    python(
        *(str(checkout / "main_pretrain.py"), "--config-path", str(EXAMPLE / "configs")),
        *("--config-name", NAME, *overrides(image_folder(tmp_path / "images"))),
    )
    assert len(list(Path("models").rglob("*.ckpt"))) == 1
