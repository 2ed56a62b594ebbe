#!/usr/bin/env bash
# Test with several processes: tools/dist_test.sh CONFIG CHECKPOINT GPUS [flags]; see dist.sh.
exec bash "$(dirname "$0")/dist.sh" test 2 'CONFIG CHECKPOINT' "$@"
