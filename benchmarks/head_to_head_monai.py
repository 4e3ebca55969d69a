"""The arms "monai" and "monai-tutorial" of head_to_head.py: a script in MONAI alone, with the same limit of time."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import monai.transforms as mt
import torch
from monai.data import CacheDataset, DataLoader, Dataset, decollate_batch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss, DiceLoss
from monai.networks.nets import UNet

WINDOW = {"hippocampi": (32, 48, 32), "hearts": (96, 96, 8)}  # (x, y, z)
SPACING = {"hippocampi": (1.0, 1.0, 1.0), "hearts": (2.0, 2.0, 8.0)}
STRIDES = {"hippocampi": [2, 2, 2], "hearts": [(2, 2, 1), (2, 2, 1), 2]}


def main(file: str) -> None:
    """Do a job."""
    job = json.loads(Path(file).read_text())
    tutorial, data, classes = job["arm"] == "monai-tutorial", job["data"], len(job["names"]) + 1
    seed = job["seed"]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    window, keys = WINDOW[data], ["image", "label"]

    def loaded(keys: list[str]) -> list[mt.Transform]:
        return [
            mt.LoadImaged(keys),
            mt.EnsureChannelFirstd(keys),
            mt.Orientationd(keys, axcodes="RAS", labels=None),
            mt.Spacingd(keys, pixdim=SPACING[data], mode=["bilinear", "nearest"][: len(keys)]),
            mt.ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1, clip=True),
        ]

    crop = [
        mt.SpatialPadd(keys, window),
        mt.RandCropByPosNegLabeld(keys, "label", window, pos=1, neg=1, num_samples=2, image_key="image"),
    ]
    augment = [
        mt.RandAffined(
            keys, prob=0.5, rotate_range=[0.26] * 3, scale_range=[0.2] * 3, mode=["bilinear", "nearest"],
            padding_mode="border",
        ),
        mt.RandGaussianNoised("image", prob=0.2, std=0.05),
        mt.RandGaussianSmoothd("image", (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.2),
        mt.RandScaleIntensityd("image", 0.25, prob=0.3),
        mt.RandShiftIntensityd("image", 0.1, prob=0.3),
        mt.RandAdjustContrastd("image", prob=0.2, gamma=(0.7, 1.5)),
    ]  # fmt: skip
    files = [{"image": image, "label": label} for image, label in zip(job["images"], job["labels"], strict=True)]
    train = CacheDataset(files, mt.Compose(loaded(keys) + crop + ([] if tutorial else augment)), progress=False)
    train.transform.set_random_state(seed)
    loader = DataLoader(train, batch_size=1 if not tutorial else 2, shuffle=True)

    widths = (16, 32, 64, 128) if not tutorial else (16, 32, 64, 128, 256)
    strides = STRIDES[data] if not tutorial else [*STRIDES[data], 1 if data == "hearts" else 2]
    norm = "instance" if not tutorial else "batch"
    net = UNet(3, 1, classes, widths, strides, num_res_units=2, norm=norm)
    rate = 1e-3 if not tutorial else 1e-4
    if tutorial:
        loss, optimiser = DiceLoss(to_onehot_y=True, softmax=True), torch.optim.Adam(net.parameters(), rate)
    else:
        loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        optimiser = torch.optim.AdamW(net.parameters(), rate)
    begin, steps, spent = time.process_time(), 0, 0.0
    while spent < job["seconds"]:
        for batch in loader:
            if not tutorial:
                for group in optimiser.param_groups:
                    group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * min(1.0, spent / job["seconds"])))
            optimiser.zero_grad()
            loss(net(batch["image"].as_tensor()), batch["label"].as_tensor()).backward()
            optimiser.step()
            steps, spent = steps + 1, time.process_time() - begin
            if spent >= job["seconds"]:
                break

    out = Path(job["out"]) / "predictions"
    net.eval()
    prepare = mt.Compose(loaded(["image"]))
    back = mt.Compose([
        mt.Invertd("pred", prepare, orig_keys="image", nearest_interp=False),
        mt.AsDiscreted("pred", argmax=True),
        mt.SaveImaged("pred", output_dir=out, output_postfix="", separate_folder=False, print_log=False),
    ])  # fmt: skip
    with torch.no_grad():
        for batch in DataLoader(Dataset([{"image": p} for p in job["tests"].values()], prepare)):
            batch["pred"] = sliding_window_inference(batch["image"], window, 2, net, overlap=0.5, mode="gaussian")
            for one in decollate_batch(batch):
                back(one)
    (out.parent / "trained.json").write_text(json.dumps({"training": spent, "steps": steps}))


if __name__ == "__main__":
    main(sys.argv[1])
