"""``mixbt-pretrain`` as a script, where solo-learn has its ``main_pretrain.py``."""

from mixbt_plugin.apps.commands import pretrain

if __name__ == "__main__":
    pretrain()
