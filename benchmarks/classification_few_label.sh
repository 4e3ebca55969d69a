#!/usr/bin/env bash
# Classes at 5, 10, 25 and 100 % of the labels: diagnosis of ACDC (5 classes), grade of LGG, tumour in a slice or not.
#   MEDSSL_DATA=FOLDER bash benchmarks/classification_few_label.sh OUT
# Probes of every run come first, since they are cheap; then the arms named in FINE are fine-tuned beside scratch.
# TASKS names some of diagnosis, grade and tumour to fine-tune.
# METHODS=all probes every method that pretrains the small U-Net (but local_contrast, whose encoder is that of
# global_contrast); benchmarks/mean_rank.py ranks what comes out.
# Every step is skipped when it is done, so the script goes on where it was stopped. EACH names a command that is put
# before each step (a queue, say); no step is longer than about ten minutes of one core.
set -euo pipefail
out=${1:?usage: classification_few_label.sh OUT}
each=${EACH:-} steps=${STEPS:-400} tuned=${TUNED:-150} draws=${DRAWS:-3} seeds=${SEEDS:-0 1} parts=${PARTS:-12}
methods=${METHODS:-simclr voco spark_s3d joined} fine=${FINE-simclr joined} shares=${SHARES:-[0.05,0.1,0.25,1]}
tasks=${TASKS:-diagnosis grade tumour}
if [ "$methods" = all ]; then
  methods="simclr voco spark_s3d joined moco byol simsiam swav barlow vicreg dino ibot cvrl global_contrast masked spark voco_masked"
fi
cpu=(train.precision=32-true train.threads=1)
data=${MEDSSL_DATA:?names the folder that holds acdc/ and lgg_flair/}
mkdir -p "$out" && cd "$out"

store() { # name, spacing, index options...
  [ -f "$1/store.json" ] && return
  medssl index "${@:3}" --out "$1.parquet" modality=MR test=0.4 val=0
  medssl cache "$1.parquet" --out "$1" spacing_mm="$2" crop=true
}
store acdc "[8,4,4]" "$data/acdc"
store lgg "[4,4,4]" "$data/lgg_flair" --targets "$data/lgg_flair/data.csv" \
  targets_columns.grade=neoplasm_histologic_grade

views() { # the small presets' windows, fitted to thick slices
  local window="[16,64,64]" part=method.parts
  case $1 in
    simclr|moco|byol|simsiam|barlow|vicreg) echo "method.window=$window method.crop=[16,48,48]" ;;
    swav|dino|ibot) echo "method.window=$window method.crop=[16,48,48] method.local_crop=[8,24,24]" ;;
    cvrl) echo "method.window=$window method.crop=[16,48,48]" ;;
    global_contrast) echo "method.window=[8,64,64]" ;;
    voco) echo "method.window=$window method.crop=[8,32,32] method.grid=[2,2,2] method.random_crops=4" ;;
    masked|spark|spark_s3d) echo "method.window=$window method.patch=[4,8,8]" ;;
    voco_masked) echo "method.voco.window=$window method.voco.crop=[8,32,32] method.voco.grid=[2,2,2]" \
      "method.voco.random_crops=4 method.masked.window=$window method.masked.patch=[4,8,8]" ;;
    joined) echo "$part.contrast.method.window=$window $part.contrast.method.crop=[16,48,48]" \
      "$part.masked.method.window=$window $part.masked.method.patch=[4,8,8]" ;;
    *) echo "no windows are set for '$1' here" >&2; exit 2 ;;
  esac
}
runs_of() { for method in $2; do for seed in $seeds; do echo "runs/$1/$method-seed$seed"; done; done; }

for set in acdc lgg; do
  for seed in $seeds; do
    for method in $methods; do
      run=runs/$set/$method-seed$seed
      [ -f "$run/card.json" ] && continue
      resume=(); [ -d "$run" ] && resume=(--resume)
      read -ra own <<<"$(views "$method")"
      $each medssl pretrain "${method}_small" --data "$set" --out "$run" "${resume[@]}" \
        "encoder.strides=[1,[1,2,2],2,2]" "${own[@]}" train.steps="$steps" train.seed="$seed" "${cpu[@]}"
    done
  done
done

protocol() { # kind, name, store, runs, settings...
  local kind=$1 name=$2 set=$3 first against=()
  read -ra arms <<<"$(tr '\n' ' ' <<<"$4")"
  first=${arms[0]}
  for run in "${arms[@]:1}"; do against+=(--against "$run"); done
  $each medssl evaluate "$first" "${against[@]}" --data "$set" --protocol "$kind" --out "$kind/$name" "${@:5}"
}
probe() { # name, store, settings...
  [ -f "probe/$1/probe.json" ] && return
  protocol probe "$1" "$2" "$(runs_of "$2" "$methods")" probe.shares="$shares" probe.draws="$draws" "${@:3}"
}
probe diagnosis acdc probe.scans.target=diagnosis
probe grade lgg probe.scans.target=grade
probe tumour lgg probe.scans.shows=1 probe.scans.level=slice "probe.scans.window=[4,64,64]"

tune() { # name, store, recipe, settings of finetune...
  [[ " $tasks " = *" $1 "* ]] || return 0
  [ -f "few-label/$1/few_label.json" ] && ! grep -q '"missing": \[$' "few-label/$1/few_label.json" && return
  local settings=(few_label.recipe="$3" few_label.shares="$shares" few_label.draws="$draws"
    few_label.finetune.train.steps="$tuned" "${cpu[@]/#/few_label.finetune.}")
  for setting in "${@:4}"; do settings+=("few_label.finetune.classification.$setting"); done
  for part in $(seq 1 "$parts"); do
    protocol few-label "$1" "$2" "$(runs_of "$2" "$fine")" "${settings[@]}" --shard "$part/$parts"
  done
}
[ -n "$fine" ] || exit 0
tune diagnosis acdc classification_small target=diagnosis
tune grade lgg classification_small target=grade
tune tumour lgg slices_small shows=1 "window=[4,64,64]"
