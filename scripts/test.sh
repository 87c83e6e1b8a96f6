#!/usr/bin/env bash
# Lint, types, import rules, the site and tests. With SOLO_LEARN_PATH=/path/to/checkout the tests run once
# more against that solo-learn, by import path. Arguments go to pytest, which runs one process a core; those of
# `-m "not slow"` take half the time.
source "$(dirname "$0")/environment.sh"
export OMP_NUM_THREADS=1
tests() { "$1/bin/python" -m pytest -n auto --dist worksteal --basetemp="$PWD/.cache/tests" "${@:2}"; }
make_environment .venv-test ".[demo,dev,docs,loggers]"
echo "== ruff"
.venv-test/bin/ruff check .
.venv-test/bin/ruff format --check .
echo "== mypy"
.venv-test/bin/mypy
echo "== import rules"
.venv-test/bin/lint-imports
echo "== site, no warning"
NO_MKDOCS_2_WARNING=1 .venv-test/bin/mkdocs --quiet build --strict
echo "== pytest, embedded host"
MIXBT_HOST=embedded tests .venv-test "$@"

if [ -n "${SOLO_LEARN_PATH:-}" ]; then
    # What solo-learn needs: its Lightning and torchmetrics ask for pkg_resources.
    make_environment .venv-solo-learn ".[dali,demo,dev,embed,loggers,onnx]" \
        "setuptools<81" "torchmetrics<0.12" einops scipy tqdm
    echo "== pytest, solo-learn at $SOLO_LEARN_PATH"
    MIXBT_HOST=solo-learn PYTHONPATH="$(realpath "$SOLO_LEARN_PATH")" tests .venv-solo-learn "$@"
fi
