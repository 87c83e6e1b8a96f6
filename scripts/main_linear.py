"""``mixbt-linear`` as a script, where solo-learn has its ``main_linear.py``."""

from mixbt_plugin.apps.commands import linear

if __name__ == "__main__":
    linear()
