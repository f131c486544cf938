#!/bin/sh
# Runs the tests marked `core` on the oldest supported Paddle and Python and on the newest, each in a small environment
# of its own in .versions. An interpreter that is not found is passed over and said so.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')"; then
            command -v "$candidate"
            return
        fi
    done
}

run() {
    python=$(find_python "$1")
    if [ -z "$python" ]; then
        echo "Python $1 is not here: Paddle $2 is not tried with it"
        return
    fi
    environment=".versions/$1-$2"
    if [ ! -f "$environment/ready" ] || [ pyproject.toml -nt "$environment/ready" ]; then
        "$python" -m venv "$environment"
        "$environment/bin/python" -m pip install --quiet --editable . "paddlepaddle==$2" pytest pytest-xdist hypothesis pyyaml
        touch "$environment/ready"
    fi
    echo "Python $1, Paddle $2"
    PATH="$PWD/$environment/bin:$PATH" "$environment/bin/python" -m pytest -m core -n "${JOBS:-2}" \
        tests/core tests/losses tests/models tests/methods/test_contract.py tests/cli/test_selftest.py
}

run 3.10 3.0.0
run 3.13 3.3.1
