"""What a source distribution and the wheel made of it hold, and that the wheel is enough."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.plugin.test_registration import copy_source

ROOT = Path(__file__).parents[1]
CONFIGS = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")}


def build(kind: str, source: Path, target: Path) -> Path:
    code = (
        "import sys; from setuptools import build_meta as build; "
        f"print(build.build_{kind}({str(target)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    source.mkdir()
    copy_source(ROOT, source)
    with tarfile.open(build("sdist", source, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made of the source distribution."""
    return build("wheel", sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """What it holds."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "site")
    return wheel.parent / "site"


@pytest.fixture(scope="module")
def scripts(wheel: Path) -> Path:
    """The commands' folder of an environment into which pip has installed it.

    The environment sees this one's packages, but not what they say of this folder: an editable
    installation does so by a file that is read in the environment's own folder alone.
    """
    environment = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_source_distribution_holds_the_configs(sdist: Path) -> None:
    assert files(sdist) >= CONFIGS


def test_the_wheel_holds_configs_types_licence_and_the_hydra_plugin(site: Path) -> None:
    found = files(site)
    assert found >= {f"mixbt_plugin/{config}" for config in CONFIGS}
    assert found >= {"mixbt_plugin/py.typed", "hydra_plugins/mixbt_plugin/registration.py"}
    assert any(name.endswith("licenses/LICENSE") for name in found)


def test_the_wheel_holds_nothing_else(site: Path) -> None:
    top = {path.name for path in site.iterdir()}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "mixbt_plugin",
        "hydra_plugins",
    }


@pytest.mark.slow
def test_the_quick_starts_config_runs_where_the_wheel_is_installed(
    scripts: Path, tmp_path: Path
) -> None:
    command = [str(scripts / "mixbt-pretrain"), "--config-path", "pretrain/mnist5k"]
    command += ["--config-name", "mixbt", "fast_dev_run=True"]
    command += ["+backbone.kwargs.width=8", "accelerator=cpu", "data.num_workers=0"]
    environment = {**os.environ, "PYTHONPATH": "", "MIXBT_HOST": "embedded"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
