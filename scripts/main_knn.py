"""``mixbt-knn`` as a script, where solo-learn has its ``main_knn.py``."""

from mixbt_plugin.apps.knn import main

if __name__ == "__main__":
    main()
