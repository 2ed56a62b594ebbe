#!/usr/bin/env bash
# Run `mmca train` or `mmca test` in several processes: one per GPU, or on CPUs without a GPU. Called
# by dist_train.sh and dist_test.sh. On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT
# on each.
set -euo pipefail

command=$1 count=$2 usage=$3
shift 3
inputs=("${@:1:count}")
gpus=${*:count+1:1}
if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: tools/dist_$command.sh $usage GPUS [flags]" >&2
    exit 2
fi
shift $((count + 1))

exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    -m mmca "$command" "${inputs[@]}" --launcher pytorch "$@"
