"""``mixbt-knn`` as a script, where solo-learn has its ``main_knn.py``."""

from mixbt_plugin.apps.commands import knn

if __name__ == "__main__":
    knn()
