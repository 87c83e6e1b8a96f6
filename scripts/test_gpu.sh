#!/usr/bin/env bash
# The tests on a GPU, in at most eight minutes, and their report: test_gpu.json and test_gpu.md in
# gpu-report/. PYTHON (python3) is an interpreter that has PyTorch >= 2.5; nothing is installed but
# pytest, into .venv-gpu, where it is missing. What other packages are missing for is skipped.
# MIXBT_GPU_DEVICE=cpu lets the CPU stand in. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
"$python" -c "import torch" || { echo "no PyTorch in $python: PYTHON=/path/to/python names another"; exit 2; }
if ! "$python" -c "import pytest" 2>/dev/null; then
    "$python" -m venv --system-site-packages .venv-gpu
    .venv-gpu/bin/pip install --quiet --disable-pip-version-check pytest
    python=.venv-gpu/bin/python
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 WANDB_MODE=disabled
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
export MIXBT_GPU_REPORT="${MIXBT_GPU_REPORT:-$PWD/gpu-report}" CUBLAS_WORKSPACE_CONFIG=:4096:8
mkdir -p "$MIXBT_GPU_REPORT"
status=0
"$python" -m pytest tests/gpu -q -p no:cacheprovider --confcutdir=tests/gpu \
    --basetemp="$MIXBT_GPU_REPORT/tmp" "$@" || status=$?
rm -rf "$MIXBT_GPU_REPORT/tmp"
echo "report: $MIXBT_GPU_REPORT/test_gpu.md"
exit $status
