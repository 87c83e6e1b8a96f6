"""Packaging of mixbt_plugin."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "mixbt_plugin/__init__.py").read_text())[1]
APPS = ("pretrain", "linear", "knn", "export", "embed", "diagnose", "compare", "doctor")


class BuildWithConfigs(build_py):
    """Puts the top-level folder ``configs`` into the package, where a wheel can carry it."""

    def run(self) -> None:
        """Builds, then copies the configs."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "mixbt_plugin" / "configs"
            shutil.copytree(HERE / "configs", target, dirs_exist_ok=True)


setup(
    name="mixbt-plugin",
    version=VERSION,
    description="Mixed and multi-augmentation Barlow Twins, VICReg and HSIC-SSL for solo-learn",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["mixbt_plugin", "mixbt_plugin.*"]),
        *find_namespace_packages(include=["hydra_plugins.*"]),
    ],
    # Spelled out, so that an editable install puts this folder itself on the import path: Hydra
    # does not find plugins behind setuptools' import hooks.
    package_dir={"": "."},
    package_data={"mixbt_plugin": ["py.typed"]},
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=[
        "hydra-core>=1.3.2,<1.4",
        "lightning>=2.1.2,<2.7",
        "numpy>=1.24",
        "omegaconf>=2.3,<2.4",
        "pydantic>=2.7,<3",
        "safetensors>=0.4",
        "scikit-learn>=1.2",
        "timm>=1.0.22",
        "torch>=2.5",
        "torchmetrics>=0.11.4,<2",
        "torchvision>=0.20",
    ],
    extras_require={
        "demo": ["matplotlib>=3.7", "mlxtend>=0.23", "pandas>=2", "scikit-image>=0.22"],
        "dali": ["nvidia-dali-cuda130>=2.0"],
        "h5": ["h5py>=3.8"],
        "onnx": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.1"],
        "embed": ["matplotlib>=3.7", "pyarrow>=14", "umap-learn>=0.5"],
        "loggers": ["tensorboard", "wandb"],
        "docs": [
            "latex2mathml>=3.77",
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.6,<10",
            "mkdocstrings[python]>=0.29",
        ],
        "dev": [
            "h5py>=3.8",
            "hypothesis>=6.100",
            "import-linter>=2",
            "lightly>=1.5",
            "mypy>=1.10",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.6",
            "scipy>=1.10",
        ],
    },
    entry_points={
        "console_scripts": [f"mixbt-{app} = mixbt_plugin.apps.commands:{app}" for app in APPS]
    },
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
