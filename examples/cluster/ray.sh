#!/bin/bash
# The data on a cluster of Ray: RAY_ADDRESS names it (host:6379, or auto on its head); without one Ray starts here.
# Every machine needs medssl[ray], and sees SCANS and OUT under the same paths.
set -euo pipefail

mkdir -p "$OUT"
medssl index "$SCANS" --out "$OUT/scans.parquet" engine=ray
medssl reduce "$OUT/scans.parquet" --out "$OUT/kept.parquet" engine=ray
medssl cache "$OUT/kept.parquet" --out "$OUT/store" engine=ray
