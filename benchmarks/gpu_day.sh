#!/usr/bin/env bash
# Test and measure a GPU, in parts of at most nine minutes that can run separately:
#     bash benchmarks/gpu_day.sh OUT [PART...]     # correctness training time models sizes
# The exit code is 1 if a command fails or runs out of time. DEVICE=cpu rehearses all parts with
# small sizes. The machine needs torch, pytest and, for `models`, timm. With mmdet, the script also
# times whole detectors. Without mmengine and internet access, set WHEELS=DIR to install all wheels
# in DIR first. To download them (4 MiB) on another machine:
#     pip download --no-deps -d DIR onedl-mmengine==0.10.12 addict yapf termcolor rich \
#         platformdirs markdown-it-py mdurl pygments pyyaml
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: gpu_day.sh OUT [PART...]}
shift
parts=("$@")
((${#parts[@]})) || parts=(correctness training time models sizes)
device=${DEVICE:-cuda}
limit=540 # seconds of a part, whose commands share them
failed=0
layer=(--profile) training=() models=(--batch 2) variants=() sizes=() op=() rounds=()
scaling=(--size 1x56x56x64 --size 1x112x112x64 --size 1x224x224x64 --size 1x512x512x64)
if [ "$device" = cpu ]; then
  layer+=(--size 1x28x28x16)
  training=(--backbone ca_pvt_t --shape 64 96 --steps 20)
  models=(--shape 64 96)
  variants=(--backbone ca_pvt_t)
  sizes=(--count 4 --side 16)
  op=(--size 1x28x28x16)
  scaling=(--size 1x14x14x64 --size 1x28x28x64)
  rounds=(--rounds 2)
fi

run() {
  local name=$1
  shift
  echo "== $name: $*" | tee -a "$out/summary.txt"
  local code=124 # timeout's own, where the part has no time left
  ((SECONDS >= limit)) || { timeout "$((limit - SECONDS))" "$@" > "$out/$name.txt" 2>&1; code=$?; }
  ((code == 0)) || failed=1
  [ ! -f "$out/$name.txt" ] || tail -n 12 "$out/$name.txt" | tee -a "$out/summary.txt"
  echo "exit code $code, $SECONDS s" | tee -a "$out/summary.txt"
}

bench() {
  local name=$1
  shift
  run "$name" python -m benchmarks "$@" --device "$device" --out "$out/$name"
}

mkdir -p "$out"
[ -z "${WHEELS:-}" ] || python -m pip install --no-index --no-deps "$WHEELS"/*.whl || exit 1
for part in "${parts[@]}"; do
  SECONDS=0
  case $part in
    correctness)
      MMCA_TEST_DEVICE=$device run correctness python -m pytest -m gpu tests/gpu -p no:cacheprovider
      ;;
    training)
      bench training training "${training[@]}"
      ;;
    time)
      bench passes passes --no-memory "${layer[@]}" "${rounds[@]}"
      bench layer_amp layer --amp --no-memory "${layer[@]}" "${rounds[@]}"
      MMCA_BACKEND=eager bench layer_eager layer --amp --no-memory "${layer[@]}" "${rounds[@]}"
      [ "$device" = cpu ] || bench layer_tf32 layer --tf32 --no-memory "${layer[@]}" "${rounds[@]}"
      bench layer layer "${layer[@]}" "${rounds[@]}" # with memory: slow, a process for each figure
      ;;
    models)
      others=(--baselines timm_swin_t timm_pvtv2_b2)
      bench backbone backbone "${others[@]}" "${models[@]}" "${rounds[@]}"
      bench backbone_amp backbone --amp --no-memory "${others[@]}" "${models[@]}" "${rounds[@]}"
      bench variants variants --no-memory "${models[@]}" "${variants[@]}" "${rounds[@]}"
      if python -c 'import mmdet' 2> /dev/null; then
        bench detector detector --no-memory "${models[@]}" "${rounds[@]}"
        [ "$device" = cpu ] ||
          bench detector_amp detector --amp --no-memory "${models[@]}" "${rounds[@]}"
      fi
      ;;
    sizes)
      bench sizes sizes "${sizes[@]}" "${rounds[@]}"
      bench op op --no-memory "${op[@]}" "${rounds[@]}"
      bench scaling layer --no-memory "${scaling[@]}" "${rounds[@]}"
      ;;
    *)
      echo "error: unknown part $part: correctness training time models sizes" >&2
      exit 2
      ;;
  esac
done
exit "$failed"
