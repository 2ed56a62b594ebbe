#!/usr/bin/env bash
# Train with several processes: tools/dist_train.sh CONFIG GPUS [flags]; see dist.sh.
exec bash "$(dirname "$0")/dist.sh" train 1 'CONFIG' "$@"
