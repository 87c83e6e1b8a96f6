"""``mixbt-linear`` as a script, where solo-learn has its ``main_linear.py``."""

from mixbt_plugin.apps.linear import main

if __name__ == "__main__":
    main()
