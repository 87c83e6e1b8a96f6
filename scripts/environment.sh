# Sourced by the other scripts: environments inside the project folder, made once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p .cache
export PYTHONDONTWRITEBYTECODE=1
# Caches too stay inside the folder: pip's, matplotlib's, W&B's.
export XDG_CACHE_HOME="$PWD/.cache" MPLCONFIGDIR="$PWD/.cache/matplotlib"
export WANDB_CONFIG_DIR="$PWD/.cache/wandb" WANDB_DATA_DIR="$PWD/.cache/wandb"

# make_environment FOLDER REQUIREMENT...: a virtual environment with the plugin and requirements,
# made again only when the interpreter, the requirements or setup.py changed.
make_environment() {
    local folder=$1; shift
    local python=${PYTHON:-python3} wanted
    wanted="$("$python" --version) $* $(cksum < setup.py) $(cksum < pyproject.toml)"
    if [ "$(cat "$folder/made-for" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "== making $folder (pip downloads PyTorch once; minutes on a slow line)"
    "$python" -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable .
    rm -rf mixbt_plugin.egg-info
    echo "$wanted" > "$folder/made-for"
}
