"""SimCLR written out from the parts that every method is made of, on one screen.

python examples/simclr_from_parts.py [STEPS]      (synthetic scans, no files of yours, some seconds)

Chen et al. 2020, arXiv:2002.05709. `medssl pretrain simclr` is the same with checkpoints, resume,
probes and several processes.
"""

import sys
import tempfile
from pathlib import Path

import torch

from medssl.encoders.table import build_encoder
from medssl.heads import Projection
from medssl.loading import WindowLoader
from medssl.methods.embedder import Embedder
from medssl.objectives.diagnostics import view_retrieval
from medssl.objectives.infonce import info_nce, pairs_of_views
from medssl.phantoms import phantom
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays
from medssl.views.intensity import IntensitySettings
from medssl.views.random_crops import random_crops
from medssl.views.spatial import SpatialSettings
from medssl.windows import WindowPlan

STEPS, BATCH, SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 40, 8, 0


def main(folder: Path) -> list[float]:
    """Train on twelve synthetic patients, and return how often a view finds its other view, before and after."""
    made = [phantom(number, shape=(32, 32, 32), spacing_mm=(8.0, 8.0, 8.0)) for number in range(12)]
    store = store_from_arrays(
        folder, [Item(id=f"p{n}", patient=f"p{n}", values=m.values, affine=m.affine) for n, m in enumerate(made)]
    )
    torch.manual_seed(SEED)  # random initialization; all else is drawn from (SEED, step, slot)
    encoder = build_encoder({"name": "unet", "channels": [8, 16, 32]})
    network = Embedder(encoder, Projection(encoder.embedding_dim, 64, 32))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loader = WindowLoader(store, WindowPlan(size=(24, 24, 24)), batch_size=BATCH, seed=SEED)

    def views_of(step):
        batch = loader.batch(step)
        stream = Stream(SEED, step, range(BATCH))
        size, chosen = (16, 16, 16), {"spatial": SpatialSettings(), "intensity": IntensitySettings()}
        return batch, random_crops(batch, stream, size=size, count=2, **chosen).transpose(0, 1)  # (V, B, C, z, y, x)

    @torch.no_grad()
    def retrieval(step):
        _, crops_VB = views_of(step)
        pooled = encoder.embed(crops_VB.flatten(0, 1))
        return float(view_retrieval(pooled[:BATCH], pooled[BATCH:]))

    found = [retrieval(10_000)]
    for step in range(STEPS):
        batch, crops_VB = views_of(step)
        _, projected = network(crops_VB.flatten(0, 1))
        pairs = pairs_of_views(projected.view(2, BATCH, -1), batch.item, batch.patient)
        loss = info_nce(pairs, temperature=0.2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 10 == 0:
            print(f"step {step:3d}  loss {loss.item():.3f}")
    return [*found, retrieval(10_000)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as room:
        before, after = main(Path(room))
    print(
        f"a view finds its other view among {BATCH}: {before:.2f} before, {after:.2f} after, {1 / BATCH:.2f} by chance"
    )
