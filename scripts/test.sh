#!/usr/bin/env bash
# Lint, types, import rules and tests. With SOLO_LEARN_PATH=/path/to/checkout the tests run once
# more against that solo-learn, by import path. Arguments go to pytest.
source "$(dirname "$0")/environment.sh"
make_environment .venv-test ".[demo,dev,loggers]"
echo "== ruff"
.venv-test/bin/ruff check .
.venv-test/bin/ruff format --check .
echo "== mypy"
.venv-test/bin/mypy
echo "== import rules"
.venv-test/bin/lint-imports
echo "== pytest, embedded host"
MIXBT_HOST=embedded .venv-test/bin/python -m pytest --basetemp="$PWD/.cache/tests" "$@"

if [ -n "${SOLO_LEARN_PATH:-}" ]; then
    # What solo-learn needs: its Lightning and torchmetrics ask for pkg_resources.
    make_environment .venv-solo-learn ".[demo,dev,loggers]" \
        "setuptools<81" "torchmetrics<0.12" einops scipy tqdm
    echo "== pytest, solo-learn at $SOLO_LEARN_PATH"
    MIXBT_HOST=solo-learn PYTHONPATH="$(realpath "$SOLO_LEARN_PATH")" \
        .venv-solo-learn/bin/python -m pytest --basetemp="$PWD/.cache/tests" "$@"
fi
