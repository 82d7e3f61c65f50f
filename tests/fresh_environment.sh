#!/usr/bin/env bash
# What README tells a new user to type: a clone, a new virtual environment outside of it, every command of its section "Set-up" as
# it stands there, then the main job on the shipped example. Prints each command before it runs, and ends at the first that fails.
#
#   tests/fresh_environment.sh                                         all of it, with the whole default suite
#   PYTEST_ADDOPTS="-k test_public" tests/fresh_environment.sh         the suite shortened
#
# PYTHON chooses the interpreter (3.11 or later).
set -euo pipefail
exec < /dev/null

source=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
unset PYTHONPATH
git clone --quiet "$source" "$place/checkout"
"${PYTHON:-python3}" -m venv "$place/environment"
export PATH="$place/environment/bin:$PATH"
cd "$place/checkout"

# The lines of the bash blocks below "## Set-up", without comments
mapfile -t commands < <(awk '/^## /{inside = /^## Set-?up/} /^```/{code = inside && $0 == "```bash"; next} code && !/^ *(#|$)/' README.md)
if [ "${#commands[@]}" -lt 2 ]; then
    echo "error: README.md has no two commands below '## Set-up'" >&2
    exit 1
fi
commands+=(
    "genie-onnx quantize examples/digits.onnx -o digits.w4a4.onnx --wbits 4 --abits 4"
    "genie-onnx evaluate examples/digits.onnx digits.w4a4.onnx --data examples/digits_test.npz"
)
for command in "${commands[@]}"; do
    echo "$ $command"
    started=$SECONDS
    eval "$command"
    echo "# $((SECONDS - started)) s"
done
echo "README's commands work in a fresh environment"
