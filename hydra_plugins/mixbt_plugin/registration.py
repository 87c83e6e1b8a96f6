"""Registers the methods when Hydra starts inside solo-learn.

Hydra imports this module in every Hydra application of the environment, before the application's
task function runs. So it imports nothing but Hydra, does something only where solo-learn's methods
are already imported, and never raises: a failure is kept for ``mixbt-doctor`` and printed once.
"""

import sys
import warnings

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


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


class MixBTPlugin(SearchPathPlugin):
    """Lets Hydra find this module; the search path stays as it is."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Registers the methods, where the application imported solo-learn."""
        _register()
