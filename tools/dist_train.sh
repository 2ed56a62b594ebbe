#!/usr/bin/env bash
# Train with several processes, one per GPU, or on CPUs where there is no GPU.
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail

gpus=${2:-}
if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]" >&2
    exit 2
fi
inputs=("${@:1:1}")
shift 2

exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$(dirname "$0")/train.py" "${inputs[@]}" --launcher pytorch "$@"
