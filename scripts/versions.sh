#!/usr/bin/env bash
# The tests at the oldest versions that setup.py claims, and at the newest there are, on the stand-in.
# OLDEST_PYTHON names one interpreter, NEWEST_PYTHONS several. Arguments go to pytest.
source "$(dirname "$0")/environment.sh"
export OMP_NUM_THREADS=1 MIXBT_HOST=embedded

# The lower bounds of install_requires and of the images that the tests use, as pip constraints.
python3 - > .cache/oldest.txt <<'PYTHON'
import re
text = open("setup.py").read()
for block in re.findall(r'(?:install_requires=|"demo": )\[(.*?)\]', text, re.DOTALL):
    for name, version in re.findall(r'"([\w-]+)>=([\d.]+)', block):
        print(f"{name}=={version}")
PYTHON

failed=()
run() {
    echo "== $1: $("$1/bin/python" --version)"
    "$1/bin/pip" list 2>/dev/null \
        | grep -E "^(torch|torchvision|lightning|hydra-core|omegaconf|timm|numpy|scikit-learn|torchmetrics) "
    "$1/bin/python" -m pytest -n auto --dist worksteal --basetemp="$PWD/.cache/tests" "${@:2}" \
        || failed+=("$1, $("$1/bin/python" --version)")
}

# Lightning and torchmetrics of those days ask for pkg_resources, and Matplotlib for an older pyparsing.
PYTHON="${OLDEST_PYTHON:-python3.10}" make_environment .venv-oldest \
    ".[demo,dev,loggers]" --constraint .cache/oldest.txt "setuptools>=70.1,<81" "pyparsing<3.3"
run .venv-oldest "$@"
for python in ${NEWEST_PYTHONS:-python3.12 python3.13}; do
    PYTHON="$python" make_environment .venv-newest ".[demo,dev,loggers]"
    run .venv-newest "$@"
done

if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
