#!/usr/bin/env bash
# All that needs a GPU, once, within eight minutes: its tests, the speed of the loops, one whole zero-shot run.
#
#   WHEELS=wheels MODELS=models benchmarks/gpu_once.sh OUT     on the GPU; nothing is fetched, nothing installed for good
#   DEVICE=cpu TINY=1 benchmarks/gpu_once.sh OUT               a try without one, in about two minutes
#
# WHEELS  folder of wheels of what is missing there, for its Python (pip download --no-deps -d wheels onnx2torch==1.5.15 ...):
#         onnx2torch, and maybe click, rich, safetensors, jinja2, filelock, psutil, ml_dtypes, protobuf, pillow, packaging,
#         llvmlite, numba, pytest. What is there already is used. OUT/setup.log says what is missing still.
# MODELS  folder of resnet18.onnx and mobilenet_v2.onnx (python benchmarks/gpu_models.py models; 61 MB). Left out, they are
#         made on the spot, where torchvision is.
# PYTHON  the interpreter that has torch (python3)
# LIMIT   seconds for everything (480)
#
# As each part ends, OUT/summary.txt gets its name, exit status (124, 137: out of time) and seconds. What a part printed is in
# OUT/PART.log; OUT/zero-shot.report.json is the report of the run, OUT/gpu.csv what the card did in each second. A part that
# fails ends no other; the script's own status is 0 where all ended well.
set -uo pipefail
OUT=${1:?usage: gpu_once.sh OUT}
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} TINY=${TINY:-} LIMIT=${LIMIT:-480} WHEELS=${WHEELS:-} MODELS=${MODELS:-}
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd)
work=$(mktemp -d)
watcher=
trap '[ -z "$watcher" ] || kill "$watcher" 2>/dev/null; rm -rf "$work"' EXIT
: > "$OUT/summary.txt"

# part NAME SECONDS COMMAND...: run it within so many seconds and what is left of LIMIT, and write down how it ended
part() {
    local name=$1 limit=$2 left=$((LIMIT - SECONDS - 6)) begin=$SECONDS rc=0 # 6: until a part that ignores its end is killed
    shift 2
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt 5 ]; then
        echo "$name: left out, no time" | tee -a "$OUT/summary.txt"
        return 1
    fi
    timeout -k 5 "$limit" "$@" > "$OUT/$name.log" 2>&1 < /dev/null || rc=$?
    echo "$name: rc=$rc seconds=$((SECONDS - begin)) of $limit" | tee -a "$OUT/summary.txt"
    return "$rc"
}

# The checkout is used as it lies there; its command line is imported under the name that it is installed by.
site=$work/site
mkdir "$site" && ln -s "$root/genie_onnx" "$site/genie_onnx" && ln -s "$root/cli" "$site/genie_onnx_cli"
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
[ "$DEVICE" = cuda ] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

export PYTHON WHEELS site # for the shell of the next part
# One by one: a wheel that does not fit keeps none of the others out.
part setup 40 bash -c '
    for name in numpy llvmlite numba onnx onnx-ir:onnx_ir onnx2torch onnxruntime ml-dtypes:ml_dtypes protobuf:google.protobuf \
        typing-extensions:typing_extensions click rich markdown-it-py:markdown_it mdurl pygments jinja2 markupsafe filelock \
        packaging pillow:PIL psutil safetensors pytest pluggy iniconfig; do
        "$PYTHON" -c "import sys, importlib.util as u; sys.exit(not u.find_spec(sys.argv[1]))" "${name#*:}" 2> /dev/null &&
            continue
        [ -n "$WHEELS" ] && "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --find-links "$WHEELS" \
            --target "$site" "${name%:*}" && echo "${name%:*}: from the wheels" || echo "${name%:*}: missing"
    done
    command -v nvidia-smi > /dev/null && nvidia-smi
    "$PYTHON" -m genie_onnx --version'

if [ "$DEVICE" = cuda ] && command -v nvidia-smi > /dev/null; then
    nvidia-smi --query-gpu=timestamp,utilization.gpu,memory.used,power.draw --format=csv -l 1 > "$OUT/gpu.csv" 2>&1 &
    watcher=$!
fi

if [ -z "$MODELS" ]; then
    MODELS=$work/models
    part models 50 "$PYTHON" "$root/benchmarks/gpu_models.py" "$MODELS" ${TINY:+--size 32}
else
    MODELS=$(cd "$MODELS" && pwd)
fi

cd "$root" || exit 1
# addopts of setup.cfg ask for pytest-xdist, which need not be there; on one GPU it would only be in the way
part tests 110 "$PYTHON" -m pytest -o addopts= -p no:cacheprovider --import-mode=importlib -m gpu -ra tests/gpu

whole=(--preset balanced) speed=(--iterations 100 --rounds 2)
if [ -n "$TINY" ]; then
    whole+=(--samples 8 --distill-iters 2 --distill-batch 4 --recon-iters 2)
    speed=(--iterations 20 --rounds 1 --batch-size 4) # 20: on a GPU the first 16 are taken off
fi
if [ "$DEVICE" != cuda ]; then
    speed+=(--precision fp32 ${TINY:+--iterations 3})
fi
part zero-shot 150 "$PYTHON" -m genie_onnx quantize "$MODELS/resnet18.onnx" -o "$work/resnet18.onnx" --wbits 4 --abits 4 \
    --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --device "$DEVICE" --log-json "${whole[@]}"
cp "$work/resnet18.report.json" "$OUT/zero-shot.report.json" 2> /dev/null

speed_of=("$PYTHON" "$root/benchmarks/speed_gpu.py" --device "$DEVICE" "${speed[@]}")
part speed-resnet18 80 "${speed_of[@]}" "$MODELS/resnet18.onnx"
part speed-mobilenet_v2 "$LIMIT" "${speed_of[@]}" "$MODELS/mobilenet_v2.onnx"
! grep -vq 'rc=0 ' "$OUT/summary.txt" # the exit status: whether every part ended well
