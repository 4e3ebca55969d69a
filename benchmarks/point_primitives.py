"""The primitives of point clouds against Open3D, scipy and the plain torch form.

OMP_NUM_THREADS=1 python benchmarks/point_primitives.py

All ways run in one process, on one thread, in turn, on the same points; their answers are checked to agree before
anything is timed. The time is that of the processor (time.process_time), so that a shared machine matters less; the
least and the median of several rounds are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import open3d
import scipy
import torch
from scipy.spatial import cKDTree

from pointcloud.primitives.chamfer import chamfer
from pointcloud.primitives.farthest import farthest_points
from pointcloud.primitives.neighbours import nearest
from pointcloud.primitives.normals import estimate_normals
from pointcloud.primitives.voxels import voxel_grid

Ways = dict[str, Callable[[], object]]


def clouds(batch: int, points: int, seed: int) -> torch.Tensor:
    """Return points spread over ellipsoids, as objects' surfaces are: float32 (batch, points, 3)."""
    generator = torch.Generator().manual_seed(seed)
    ball = torch.nn.functional.normalize(torch.randn(batch, points, 3, generator=generator), dim=-1)
    return ball * (0.5 + torch.rand(batch, 1, 3, generator=generator))


def open3d_clouds(points: torch.Tensor) -> list[open3d.geometry.PointCloud]:
    """Return Open3D's clouds, made before the clock starts."""
    return [open3d.geometry.PointCloud(open3d.utility.Vector3dVector(cloud)) for cloud in points.double().numpy()]


def plain_farthest(points: torch.Tensor, count: int) -> torch.Tensor:
    """Return the order of farthest points as most repositories write it, on rows of (x, y, z)."""
    batch = torch.arange(len(points))
    distance = torch.full(points.shape[:2], torch.inf)
    order = torch.zeros(len(points), count, dtype=torch.long)
    last = torch.zeros(len(points), dtype=torch.long)
    for pick in range(count):
        order[:, pick] = last
        distance = torch.minimum(distance, (points - points[batch, last][:, None]).square().sum(-1))
        last = distance.argmax(dim=-1)
    return order


def plain_chamfer(a: torch.Tensor, b: torch.Tensor, mode: str = "donot_use_mm_for_euclid_dist") -> torch.Tensor:
    """Return the Chamfer distance from all distances at once; with matrix products those of near points cancel."""
    between = torch.cdist(a, b, compute_mode=mode)
    return between.amin(2).square().mean(1) + between.amin(1).square().mean(1)


def plain_normals(points: torch.Tensor, k: int) -> torch.Tensor:
    """Return normals of one cloud from all distances at once."""
    near = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").topk(k, largest=False).indices
    around = points.double()[near]
    around = around - around.mean(1, keepdim=True)
    return torch.linalg.eigh(around.transpose(1, 2) @ around)[1][..., 0]


def farthest_ways(batch: int, points: int, count: int) -> Ways:
    """Return ways to pick farthest points that agree."""
    cloud = clouds(batch, points, 0)
    theirs = open3d_clouds(cloud)
    ways: Ways = {
        "medssl": lambda: farthest_points(cloud, count),
        "Open3D": lambda: [each.farthest_point_down_sample(count) for each in theirs],
        "plain torch": lambda: plain_farthest(cloud, count),
    }
    order = farthest_points(cloud, count)
    if not torch.equal(order, plain_farthest(cloud, count)):
        raise SystemExit("the orders differ from the plain form's")
    same = [
        np.array_equal(np.asarray(each.farthest_point_down_sample(count).points), cloud[at][order[at].sort().values])
        for at, each in enumerate(theirs)
    ]
    print(f"(FPS, batch {batch}, {points} points: {sum(same)} of {batch} sets equal Open3D's)")
    return ways


def neighbour_ways(batch: int, queries: int, points: int, k: int) -> Ways:
    """Return ways to find neighbours that agree."""
    cloud, asked = clouds(batch, points, 0), clouds(batch, points, 0)[:, :queries]
    arrays = [(each.double().numpy(), other.double().numpy()) for each, other in zip(cloud, asked, strict=True)]
    tensors = [
        (open3d.core.Tensor(each.numpy()), open3d.core.Tensor(other.numpy()))
        for each, other in zip(cloud, asked, strict=True)
    ]

    def by_open3d() -> list[object]:
        found = []
        for each, other in tensors:
            search = open3d.core.nns.NearestNeighborSearch(each)
            search.knn_index()
            found.append(search.knn_search(other, k)[0])
        return found

    theirs = np.stack([cKDTree(each).query(other, k)[1] for each, other in arrays])
    if not np.array_equal(np.sort(theirs), np.sort(nearest(asked, cloud, k).indices.numpy())):
        raise SystemExit("the neighbours differ from scipy's")
    return {
        "medssl": lambda: nearest(asked, cloud, k),
        "scipy, default tree": lambda: [cKDTree(each).query(other, k) for each, other in arrays],
        "Open3D": by_open3d,
        "plain torch": lambda: torch.cdist(asked, cloud).topk(k, largest=False),
    }


def chamfer_ways(batch: int, points: int, *, apart: bool = True) -> Ways:
    """Return ways to compute the Chamfer distance that agree: of two ellipsoids, or of one that was sampled twice.

    Far from a surface many of its points are nearly the nearest, and a tree has to look at more of them.
    """
    a, b = clouds(batch, points, 0), clouds(batch, points, 1)
    if not apart:
        both = clouds(batch, 2 * points, 0)
        a, b = both[:, ::2], both[:, 1::2]
    torch.testing.assert_close(chamfer(a, b), plain_chamfer(a, b), rtol=1e-4, atol=1e-7)
    ours_a, ours_b = open3d_clouds(a), open3d_clouds(b)

    def by_open3d() -> list[float]:
        return [
            float(
                np.square(p.compute_point_cloud_distance(q)).mean()
                + np.square(q.compute_point_cloud_distance(p)).mean()
            )
            for p, q in zip(ours_a, ours_b, strict=True)
        ]

    np.testing.assert_allclose(by_open3d(), chamfer(a, b).numpy(), rtol=1e-4)
    learnt = a.clone().requires_grad_()
    return {
        "medssl": lambda: chamfer(a, b),
        "medssl, with gradient": lambda: torch.autograd.grad(chamfer(learnt, b).sum(), learnt),
        "Open3D (no gradient)": by_open3d,
        "plain torch": lambda: plain_chamfer(a, b),
        "plain torch, inexact (matrix products)": lambda: plain_chamfer(a, b, "use_mm_for_euclid_dist"),
    }


def voxel_ways(points: int, size: float) -> Ways:
    """Return ways to thin a cloud that agree."""
    cloud = clouds(1, points, 0)[0]
    theirs = open3d_clouds(cloud[None])[0]
    if len(voxel_grid(cloud, size).means) != len(theirs.voxel_down_sample(size).points):
        raise SystemExit("the numbers of cubes differ from Open3D's")
    return {"medssl": lambda: voxel_grid(cloud, size), "Open3D": lambda: theirs.voxel_down_sample(size)}


def normal_ways(points: int, k: int) -> Ways:
    """Return ways to estimate normals that agree."""
    cloud = clouds(1, points, 0)
    theirs = open3d_clouds(cloud)[0]

    def by_open3d() -> None:
        theirs.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(k))

    by_open3d()
    ours = estimate_normals(cloud, k=k).directions[0].double().numpy()
    if np.quantile(np.abs((ours * np.asarray(theirs.normals)).sum(1)), 0.01) < 0.999:
        raise SystemExit("the normals differ from Open3D's")
    return {
        "medssl": lambda: estimate_normals(cloud, k=k),
        "Open3D": by_open3d,
        "plain torch": lambda: plain_normals(cloud[0], k),
    }


def timed(ways: Ways, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of processor time of each round of each way; the ways take turns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            found[name].append((time.process_time() - started) * 1e3)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cases: dict[str, tuple[Callable[[], Ways], int]] = {
        "farthest points, B32 N1024 m64": (lambda: farthest_ways(32, 1024, 64), rounds),
        "farthest points, B32 N2048 m64": (lambda: farthest_ways(32, 2048, 64), rounds),
        "farthest points, B1 N8192 m1024": (lambda: farthest_ways(1, 8192, 1024), max(2, rounds // 2)),
        "neighbours, B32 Q64 N1024 k32": (lambda: neighbour_ways(32, 64, 1024, 32), rounds),
        "neighbours, B1 Q8192 N8192 k16": (lambda: neighbour_ways(1, 8192, 8192, 16), max(2, rounds // 2)),
        "Chamfer, B32 N1024": (lambda: chamfer_ways(32, 1024), max(2, rounds // 2)),
        "Chamfer, B1 N16384": (lambda: chamfer_ways(1, 16384), max(2, rounds // 2)),
        "Chamfer, B1 N16384, one surface": (lambda: chamfer_ways(1, 16384, apart=False), max(2, rounds // 2)),
        "voxel grid, N100000": (lambda: voxel_ways(100_000, 0.05), rounds),
        "normals, N4096 k16": (lambda: normal_ways(4096, 16), max(2, rounds // 2)),
    }
    print(f"torch {torch.__version__}, Open3D {open3d.__version__}, scipy {scipy.__version__}, one thread")
    print(
        "| case | way | ms, least | ms, median | rounds | medssl is faster by |\n|---|---|---|---|---|---|", flush=True
    )
    for case, (make, turns) in cases.items():
        found = timed(make(), turns)
        for way, times in found.items():
            ratio = statistics.median(times) / statistics.median(found["medssl"])
            print(
                f"| {case} | {way} | {min(times):.2f} | {statistics.median(times):.2f} | {turns} | {ratio:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
