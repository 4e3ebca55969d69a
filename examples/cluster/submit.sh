#!/bin/bash
# From a folder of scans to a pretrained encoder: three array jobs and one of training, each after the one before.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
parts="${PARTS:-8}"
after=()
for step in index reduce cache; do
  job=$(sbatch --parsable --array="1-$parts" --export="ALL,STEP=$step" "${after[@]}" "$here/data.sbatch")
  after=(--dependency="afterok:$job")
done
sbatch --parsable "${after[@]}" "$here/pretrain.sbatch" "$@"
