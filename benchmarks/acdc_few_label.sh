#!/usr/bin/env bash
# Global and local contrast (Chaitanya et al., NeurIPS 2020), reconstruction (S3D) and both joined against scratch at
# n = 1, 2, 8 labelled hearts of ACDC, slice by slice as published and, beside it, in 3D.
#   MEDSSL_DATA=FOLDER bash benchmarks/acdc_few_label.sh OUT
# The test set is the paper's (20 hearts, those of them that are there), so are the labelled hearts at n = 1 and 2, and
# like there only the first frame of a heart is used; the pool and n = 8 are all other hearts and draws of them.
# Nearer to the paper on a GPU: STEPS=10001 FINETUNE=10000 SPACING=[10,1.367,1.367] WINDOW=[1,192,192]
#   CHANNELS=[16,32,64,128,128,128] BLOCKS=3 PRECISION=auto.
# ARMS names some of the four, PARTS one of published (n = 1, 2) and drawn (n = 8).
# Every step is skipped when it is done, so the script goes on where it was stopped.
set -euo pipefail
out=${1:?usage: acdc_few_label.sh OUT}
data=${MEDSSL_DATA:?names the folder that holds acdc/}/acdc
steps=${STEPS:-400} finetune=${FINETUNE:-200} spacing=${SPACING:-[10,2.73,2.73]} precision=${PRECISION:-32-true}
window=${WINDOW:-[1,96,96]} channels=${CHANNELS:-[8,16,32,64]} blocks=${BLOCKS:-2} seeds=${SEEDS:-0}
depths=${DEPTHS:-2d 3d} draws=${DRAWS:-5} volume=${VOLUME:-[4,96,96]}
wanted=${ARMS:-global local spark_s3d joined} parts=${PARTS:-published drawn}
mkdir -p "$out" && cd "$out"
{
  echo path,label,patient,split,modality
  for folder in "$data"/patient*; do
    patient=$(basename "$folder") split=train
    [[ $patient =~ ^patient0(0[7-9]|10|2[7-9]|30|4[7-9]|50|6[7-9]|70|8[7-9]|90)$ ]] && split=test
    image=$folder/${patient}_frame01.nii.gz
    if [ -f "$image" ]; then echo "$image,${image%.nii.gz}_gt.nii.gz,$patient,$split,MR"; fi
  done
} > hearts.csv
cat > subsets.yaml <<'YAML'
1: [[patient002], [patient042], [patient095], [patient022], [patient062]]
2: [[patient042, patient062], [patient002, patient042], [patient042, patient095], [patient002, patient022], [patient002, patient095]]
YAML
[ -f hearts.parquet ] || medssl index hearts.csv --out hearts.parquet
medssl cache hearts.parquet --out store "spacing_mm=$spacing"
flat="encoder.name=unet encoder.dims=2 encoder.channels=$channels"
deep="encoder.name=unet encoder.dims=3 encoder.channels=$channels encoder.strides=[1,[1,2,2],[1,2,2],2]"
deep="$deep encoder.kernels=[[1,3,3],[1,3,3],3,3]"
common="train.precision=$precision train.threads=1"

run() { # run FOLDER ARGUMENTS...: pretrain, or go on, or leave alone what is done or not wanted
  local folder=$1 arm; shift
  arm=$(basename "$folder")
  [[ " $wanted " = *" ${arm%-seed*} "* ]] || return 0
  arms+=("$folder")
  [ -f "$folder/card.json" ] && return
  local words=("$@")
  if [ -d "$folder" ]; then
    words=(--resume); while [ $# -gt 0 ]; do [ "$1" = --init-from ] && { shift 2; continue; }; words+=("$1"); shift; done
  fi
  medssl pretrain "${words[@]}" --data store --out "$folder"
}

for depth in $depths; do
  if [ "$depth" = 2d ]; then net=$flat size=$window; else net=$deep size=$volume; fi
  arms=()
  for seed in $seeds; do
    here=runs/$depth
    shared="$common $net train.steps=$steps train.seed=$seed"
    # shellcheck disable=SC2086
    {
      run "$here/global-seed$seed" global_contrast_slices_small $shared "method.window=$size"
      run "$here/local-seed$seed" local_contrast_slices_small --init-from "$here/global-seed$seed" $shared \
        "method.window=$size" "method.blocks=$blocks"
      run "$here/spark_s3d-seed$seed" spark_s3d_small $shared "method.window=$size" "method.patch=[1,8,8]" \
        train.batch_size=12
      run "$here/joined-seed$seed" joined_slices_small $shared "method.parts.place.method.window=$size" \
        "method.parts.drawn.method.window=$size"
    }
  done
  against=(); for arm in "${arms[@]:1}"; do against+=(--against "$arm"); done
  recipe=(few_label.recipe=segmentation_slices_small)
  if [ "$depth" = 3d ]; then recipe=(few_label.recipe=segmentation_small "few_label.finetune.segmentation.window=$size"); fi
  for part in $parts; do
    if [ $part = published ]; then
      which=("few_label.subsets=subsets.yaml")
    else
      which=("few_label.sizes=[8]" "few_label.draws=$draws")
    fi
    medssl evaluate "${arms[0]}" "${against[@]}" --data store --protocol few-label --out "few-$depth-$part" \
      "${which[@]}" "${recipe[@]}" "few_label.finetune.train.steps=$finetune" \
      "few_label.finetune.train.precision=$precision" few_label.finetune.train.threads=1
  done
done
