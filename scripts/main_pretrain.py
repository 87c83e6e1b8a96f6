"""``mixbt-pretrain`` as a script, where solo-learn has its ``main_pretrain.py``."""

from mixbt_plugin.apps.pretrain import main

if __name__ == "__main__":
    main()
