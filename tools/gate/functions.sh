# shellcheck shell=bash
# Shared by the scripts of this folder, which begin with: . "$(dirname "$0")/functions.sh"

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
GATE_CACHE=$PWD/.cache/gate
mkdir -p "$GATE_CACHE"
PATH=$PWD/.venv/bin:$PATH
# A script ends when it is interrupted, also where what it runs took that for a failure.
trap 'exit 130' INT TERM

die() {
    printf 'gate: %s\n' "$*" >&2
    exit 1
}

# as_root COMMAND...: run it with root's rights, or say that they are lacking.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs root for \"$*\", and there is no sudo: run that once as root, then repeat this."
    fi
}

# pythons VERSION...: the paths of the interpreters of these versions that really run, one a line.
pythons() {
    local version candidate
    for version in "$@"; do
        for candidate in $(type -ap "python$version") "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/"python$version"; do
            if "$candidate" -c "" >/dev/null 2>&1; then
                "$candidate" -c "import os, sys; print(os.path.realpath(sys.executable))"
                break
            fi
        done
    done
}

# unit_tests PYTHON ARGUMENTS...: run pytest with them. Here no test asks a Docker Engine: it would find none.
unit_tests() {
    local python=$1
    shift
    echo "gate: tests on $("$python" --version)"
    DOCKER_HOST=unix:///nowhere ANSIBLE_PYTHON_INTERPRETER=$PWD/.venv/bin/python \
        "$python" -m pytest -c .config/pytest.ini --rootdir . -q --durations 25 "$@"
}

# copy_to DIRECTORY: lay the working tree (what git tracks or would track) at
# DIRECTORY/ansible_collections/gpufleet/vllm as a repository of its own, and go there. Linters that need the
# collection at its place neither see nor touch anything else then.
copy_to() {
    local target=$1/ansible_collections/gpufleet/vllm
    rm -rf "$target"
    mkdir -p "$target"
    git ls-files -z -co --exclude-standard |
        while IFS= read -r -d "" file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
        tar --null --no-recursion -T - -cf - | tar -xf - -C "$target"
    cd "$target"
    git init -q
    git add -A
    export ANSIBLE_COLLECTIONS_PATH=$1
}
