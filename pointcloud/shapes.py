"""A benchmark of synthetic shapes with nuisance; every cloud is a pure function of (seed, class, index)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, did_you_mean
from medssl.randomness import numpy_generator
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.mesh import Mesh, sample_surface
from pointcloud.solids import PARTS, SOLIDS

__all__ = ["CLASSES", "CLEAN", "HARD", "PART_NAMES", "Nuisance", "dataset", "parts_of", "shape"]

CLASSES = tuple(SOLIDS)
# The parts of all classes in one row, as ShapeNetPart numbers them: the number of a part says its class too.
PART_NAMES = tuple(f"{name} {part}" for name in CLASSES for part in PARTS.get(name, ()))

_MOST_TRIES = 8  # times a half-occluded draw is drawn more densely before it is filled by repeats


@dataclass(frozen=True, kw_only=True)
class Nuisance:
    """What happens to a shape between its design and its cloud; each is drawn anew for every cloud.

    Attributes:
        pose: "none", "upright" (any turn about z) or "any" (any rotation).
        scale: Lowest and highest factor of size, before stretching.
        stretch: Largest share by which an axis is stretched or shrunk by itself.
        noise: Standard deviation of Gaussian noise on the points, as a share of the shape's radius.
        outliers: Share of the points that lie anywhere in the shape's ball.
        occlusion: Largest share of the surface that is cut away on one side.
        density: How uneven the density may be: at 0 it is even, at 1 it falls to nothing across the shape.
    """

    pose: str = "any"
    scale: tuple[float, float] = (0.7, 1.4)
    stretch: float = 0.15
    noise: float = 0.01
    outliers: float = 0.0
    occlusion: float = 0.25
    density: float = 0.5

    def __post_init__(self) -> None:
        shares = {"stretch": self.stretch, "noise": self.noise, "outliers": self.outliers, "density": self.density}
        wrong = [f"{name} is {value}; 0 to 1 was expected." for name, value in shares.items() if not 0 <= value <= 1]
        if self.pose not in ("none", "upright", "any"):
            wrong.append(f"pose is '{self.pose}'. {did_you_mean(self.pose, ('none', 'upright', 'any'))}")
        if not 0 < self.scale[0] <= self.scale[1]:
            wrong.append(f"scale is {self.scale}; two numbers above 0, the lower first, were expected.")
        if not 0 <= self.occlusion <= 0.8:
            wrong.append(f"occlusion is {self.occlusion}; 0 to 0.8 was expected.")
        if self.stretch >= 1:
            wrong.append("stretch must be below 1, or an axis would vanish.")
        if wrong:
            raise ConfigError(" ".join(wrong))


CLEAN = Nuisance(pose="none", scale=(1.0, 1.0), stretch=0.0, noise=0.0, outliers=0.0, occlusion=0.0, density=0.0)
HARD = Nuisance(pose="any", stretch=0.25, noise=0.03, outliers=0.03, occlusion=0.5, density=0.9)


def parts_of(name: str) -> tuple[int, ...]:
    """Return the numbers in ``PART_NAMES`` of the parts of a class; none where it is one piece.

    Example:
        >>> [PART_NAMES[part] for part in parts_of("cup")]
        ['cup wall', 'cup handle']
    """
    return tuple(PART_NAMES.index(f"{name} {part}") for part in PARTS.get(name, ()))


def shape(
    name: str, index: int, *, seed: int, points: int = 1024, nuisance: Nuisance | None = None, parts: bool = False
) -> Cloud:
    """Return one cloud of a class.

    Args:
        name: One of ``CLASSES``.
        index: Which example, 0 or more; train and test sets take different ones.
        seed: The benchmark's seed.
        points: How many points.
        nuisance: What happens to it; by default ``Nuisance()``.
        parts: Whether each point is labelled with the part that it lies on, a number in ``PART_NAMES``; outliers are
            labelled -1. The points are the same without it.

    Returns:
        A cloud without unit, whose ``label`` is the class's number. Normals are of the surface, which has no inside
        where the shape is open.

    Raises:
        ConfigError: There is no such class, or parts are asked of one that has none.

    Example:
        >>> bool((shape("torus", 3, seed=0).points == shape("torus", 3, seed=0).points).all())
        True
    """
    if name not in SOLIDS:
        raise ConfigError(f"There is no shape '{name}'. {did_you_mean(name, CLASSES)}")
    chosen = nuisance if nuisance is not None else Nuisance()
    label = CLASSES.index(name)
    generator = numpy_generator(seed, label, index)
    solid = SOLIDS[name](generator)
    vertices = solid.vertices - 0.5 * (solid.vertices.max(axis=0) + solid.vertices.min(axis=0))
    vertices /= np.linalg.norm(vertices, axis=1).max()
    size = generator.uniform(*chosen.scale)
    vertices *= size * generator.uniform(1 - chosen.stretch, 1 + chosen.stretch, 3)
    vertices = vertices @ _rotation(chosen.pose, generator).T
    if parts and solid.parts is None:
        raise ConfigError(f"The shape '{name}' is of one piece. Shapes with parts: {', '.join(PARTS)}.")
    placed, normals, face = _drawn(Mesh(vertices=vertices, faces=solid.faces), points, generator, chosen)
    placed = placed + generator.normal(size=placed.shape) * chosen.noise * size
    stray = generator.random(points) < chosen.outliers
    placed[stray] = _in_ball(int(stray.sum()), generator) * size
    labels = None
    if parts and solid.parts is not None:
        labels = np.where(stray, -1, np.array(parts_of(name))[solid.parts[face]])
    return make_cloud(placed, normals=normals, label=label, labels=labels)


def dataset(
    indices: range,
    *,
    seed: int,
    points: int = 1024,
    nuisance: Nuisance | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the examples ``indices`` of each class.

    Args:
        indices: Such as ``range(40)`` to train on and ``range(40, 60)`` to test on.
        seed: The benchmark's seed.
        points: How many points a cloud.
        nuisance: What happens to each cloud; by default ``Nuisance()``.
        classes: Some of ``CLASSES``; the labels are their numbers in ``CLASSES``.

    Returns:
        Float32 (clouds, points, 3), and int64 (clouds,). Classes take turns, so every beginning is balanced.

    Raises:
        ConfigError: There is no such class.
    """
    clouds = [shape(name, index, seed=seed, points=points, nuisance=nuisance) for index in indices for name in classes]
    return np.stack([cloud.points for cloud in clouds]), np.array([cloud.label for cloud in clouds], dtype=np.int64)


def _rotation(pose: str, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    if pose == "none":
        return np.eye(3)
    if pose == "upright":
        angle = generator.uniform(0, 2 * np.pi)
        turned = np.eye(3)
        turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        return turned
    w, x, y, z = (q := generator.normal(size=4)) / np.linalg.norm(q)  # a quaternion: every rotation as likely
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _in_ball(count: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    direction = generator.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = direction * np.cbrt(generator.random((count, 1)))
    return result


def _drawn(
    mesh: Mesh, points: int, generator: np.random.Generator, nuisance: Nuisance
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Draw points from what is left of the surface, at the density that is left of it.

    Returns:
        The points, the normals and the faces that they lie on.
    """
    direction, thinner = generator.normal(size=(2, 3))
    direction, thinner = direction / np.linalg.norm(direction), thinner / np.linalg.norm(thinner)
    cut = generator.uniform(0, nuisance.occlusion) if nuisance.occlusion else 0.0
    fall = generator.uniform(0, nuisance.density) if nuisance.density else 0.0
    kept, across = list[npt.NDArray[np.float64]](), list[npt.NDArray[np.float64]]()
    faces = list[npt.NDArray[np.int64]]()
    limit = low = high = 0.0
    for _ in range(_MOST_TRIES):
        drawn, face, _weights = sample_surface(mesh, 2 * points, generator)
        side, along = drawn @ direction, drawn @ thinner
        if not kept:  # decided by the first draw, so that all draws see one surface
            limit, low, high = float(np.quantile(side, 1 - cut)), float(along.min()), float(along.max())
        slope = (along - low) / max(high - low, 1e-12)
        stays = (side <= limit) & (generator.random(len(drawn)) >= fall * np.clip(slope, 0, 1))
        corners = mesh.vertices[mesh.faces[face[stays]]]
        kept.append(drawn[stays])
        faces.append(face[stays])
        across.append(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
        if sum(map(len, kept)) >= points:
            break
    placed, normals = np.concatenate(kept), np.concatenate(across)
    rows = np.arange(points) % len(placed)
    return placed[rows], normals[rows], np.concatenate(faces)[rows]
