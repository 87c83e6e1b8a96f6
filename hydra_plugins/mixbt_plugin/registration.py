"""Registers the methods when Hydra starts inside solo-learn, and shows it the shipped configs.

Hydra imports this module in every Hydra application of the environment, before the application's
task function runs. So it imports nothing but Hydra and OmegaConf, does something only where
solo-learn's methods are already imported, and never raises: a failure is kept for ``mixbt-doctor``
and printed once.
"""

import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

# In a wheel, and in a checkout.
CONFIGS = [Path(__file__).parents[2] / place for place in ("mixbt_plugin/configs", "configs")]

PARTS = {
    "pretrain": ("commands", "training", "pretrain"),
    "linear": ("commands", "training", "linear"),
    "compare": ("commands", "compare"),
    "knn": ("commands", "evaluation", "extraction", "knn"),
    "export": ("commands", "evaluation", "export"),
    "embed": ("commands", "evaluation", "extraction", "embed"),
    "diagnose": ("commands", "evaluation", "extraction", "diagnose"),
}
"""What configs name as ``/defaults: pretrain``: sections of ``defaults.yaml``, merged."""


def _register() -> None:
    if "solo.methods" not in sys.modules:
        return
    try:
        from mixbt_plugin.registry import register

        register()
    except Exception as error:
        warnings.warn(
            f"mixbt_plugin could not register its methods ({type(error).__name__}: {error}). "
            "Run mixbt-doctor to see what is missing.",
            stacklevel=2,
        )


# Here and not only below: workers of Hydra's launchers import the module but ask for no search
# path.
_register()


@cache  # Hydra asks at each composition, of which a comparison makes dozens.
def _default_parts(file: Path) -> dict[str, Any]:
    """`PARTS` of ``defaults.yaml``, each merged."""
    sections: Any = OmegaConf.load(file)
    return {
        name: OmegaConf.merge(*(sections[each] for each in names)) for name, names in PARTS.items()
    }


def _offer_defaults(file: Path) -> None:
    for name, node in _default_parts(file).items():
        ConfigStore.instance().store(
            name, node, group="defaults", package="_global_", provider="mixbt_plugin"
        )


class MixBTPlugin(SearchPathPlugin):
    """Lets configs name parts of the shipped ones from their root: ``/views: digits``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Registers the methods, where the application imported solo-learn; adds the configs."""
        _register()
        for folder in CONFIGS:
            if folder.is_dir():
                search_path.append(provider="mixbt_plugin", path=f"file://{folder}")
                _offer_defaults(folder / "defaults.yaml")
