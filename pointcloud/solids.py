"""The classes of the procedural benchmark: each a mesh whose proportions are drawn anew for every example.

Where parts overlap, as the legs and the top of a table, what lies inside is surface too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pointcloud.mesh import Mesh, joined

__all__ = ["PARTS", "SOLIDS", "Solid"]

Array = npt.NDArray[np.float64]
Grid = npt.NDArray[Any]
Solid = Callable[[np.random.Generator], Mesh]
_ROUND = 32  # corners of a circle


def _sheet(u: Grid, v: Grid, place: Callable[[Grid, Grid], tuple[Array, Array, Array]]) -> Mesh:
    """Return the mesh of a surface (u, v) -> (x, y, z) over a grid."""
    across, along = np.meshgrid(u, v, indexing="ij")
    vertices = np.stack(np.broadcast_arrays(*place(across, along)), axis=-1).reshape(-1, 3)
    number = np.arange(across.size).reshape(across.shape)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = np.concatenate([np.stack(t, axis=-1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return Mesh(vertices=vertices.astype(np.float64), faces=faces.astype(np.int64))


def _turned(
    radius: npt.ArrayLike,
    height: npt.ArrayLike,
    *,
    closed: bool = True,
    corners: int = _ROUND,
    parts: tuple[int, ...] | None = None,
) -> Mesh:
    """Return the surface of revolution about z of a profile, given from the bottom up.

    ``parts`` are those of the profile's pieces, its lids among them.
    """
    r, z = np.asarray(radius, dtype=np.float64), np.asarray(height, dtype=np.float64)
    if closed:
        r, z = np.concatenate([[0.0], r, [0.0]]), np.concatenate([z[:1], z, z[-1:]])
    step = np.arange(len(r))
    around = np.linspace(0, 2 * np.pi, corners + 1)
    mesh = _sheet(around, step, lambda a, k: (r[k] * np.cos(a), r[k] * np.sin(a), z[k]))
    return mesh if parts is None else _in_parts(mesh, parts)


def _in_parts(mesh: Mesh, pieces: tuple[int, ...]) -> Mesh:
    """Give the faces of a sheet parts by their place along its second axis; ``pieces`` has one for each step of it."""
    return replace(mesh, parts=np.resize(np.array(pieces, dtype=np.int64), len(mesh.faces)))


def _box(size: npt.ArrayLike, centre: npt.ArrayLike = (0.0, 0.0, 0.0)) -> Mesh:
    half = np.asarray(size, dtype=np.float64) / 2
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    squares = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    faces = np.concatenate([squares[:, [0, 1, 2]], squares[:, [0, 2, 3]]])
    return Mesh(vertices=corners + np.asarray(centre, dtype=np.float64), faces=faces)


def _moved(mesh: Mesh, by: npt.ArrayLike) -> Mesh:
    return Mesh(vertices=mesh.vertices + np.asarray(by, dtype=np.float64), faces=mesh.faces)


def _pipe(path: Callable[[Array], Array], length: npt.ArrayLike, thickness: float) -> Mesh:
    """Return a round pipe along a curve: ``path`` takes (n,) and gives (n, 3)."""
    t = np.asarray(length, dtype=np.float64)
    along = np.gradient(path(t), axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    aside = np.cross(along, np.where(np.abs(along[:, 2:]) < 0.9, [0.0, 0, 1], [1.0, 0, 0]))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    up, middle = np.cross(along, aside), path(t)

    def place(angle: Grid, k: Grid) -> tuple[Array, Array, Array]:
        at = middle[k] + thickness * (np.cos(angle)[..., None] * aside[k] + np.sin(angle)[..., None] * up[k])
        return at[..., 0], at[..., 1], at[..., 2]

    return _sheet(np.linspace(0, 2 * np.pi, 13), np.arange(len(t)), place)


def _prism(outline: Array, height: float, top: float = 1.0) -> Mesh:
    """Return what an outline (n, 2) about the origin sweeps up to ``height``, shrinking to ``top`` of its size."""
    ring = np.concatenate([outline, outline[:1]])
    scale, z = np.array([0.0, 1.0, top, 0.0]), np.array([0.0, 0.0, height, height])
    return _sheet(np.arange(len(ring)), np.arange(4), lambda a, k: (ring[a, 0] * scale[k], ring[a, 1] * scale[k], z[k]))


def _circle(corners: int, radius: npt.ArrayLike = 1.0) -> Array:
    angle = np.arange(corners) * 2 * np.pi / corners
    ring: Array = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.asarray(radius).reshape(-1, 1)
    return ring


def _ellipsoid(g: np.random.Generator) -> Mesh:
    polar = np.linspace(0, np.pi, 17)
    ball = _turned(np.sin(polar), -np.cos(polar), closed=False)
    return Mesh(vertices=ball.vertices * g.uniform(0.6, 1.0, 3), faces=ball.faces)


def _brick(g: np.random.Generator) -> Mesh:
    return _box(g.uniform(0.6, 1.4, 3))


def _cylinder(g: np.random.Generator) -> Mesh:
    return _turned([1, 1], [0, g.uniform(1.2, 3.0)], parts=(0, 1, 0))


def _cone(g: np.random.Generator) -> Mesh:
    return _turned([1, g.uniform(0.0, 0.2)], [0, g.uniform(1.4, 2.8)])


def _torus(g: np.random.Generator) -> Mesh:
    angle, thick = np.linspace(0, 2 * np.pi, 17), g.uniform(0.2, 0.45)
    return _turned(1 + thick * np.cos(angle), thick * np.sin(angle), closed=False)


def _capsule(g: np.random.Generator) -> Mesh:
    polar, length = np.linspace(0, np.pi / 2, 9), g.uniform(1.0, 2.5)
    radius = np.concatenate([np.sin(polar), np.cos(polar)])
    return _turned(radius, np.concatenate([-np.cos(polar), length + np.sin(polar)]), closed=False)


def _tube(g: np.random.Generator) -> Mesh:
    inner, height = g.uniform(0.55, 0.85), g.uniform(1.2, 3.0)
    return _turned([inner, 1, 1, inner, inner], [0, 0, height, height, 0], closed=False)


def _pyramid(g: np.random.Generator) -> Mesh:
    return _prism(_circle(int(g.integers(3, 6))), g.uniform(1.0, 2.0), top=0.0)


def _star(g: np.random.Generator) -> Mesh:
    points = int(g.integers(4, 8))
    star = _prism(_circle(2 * points, np.tile([1.0, g.uniform(0.35, 0.55)], points)), g.uniform(0.3, 0.8))
    return _in_parts(star, (0, 1, 0))


def _bottle(g: np.random.Generator) -> Mesh:
    neck, body, tip = g.uniform(0.2, 0.35), g.uniform(1.2, 2.0), g.uniform(0.6, 1.0)
    return _turned([1, 1, neck, neck], [0, body, body + 0.5, body + 0.5 + tip], parts=(0, 0, 0, 1, 1))


def _bowl(g: np.random.Generator) -> Mesh:
    depth, open_to = g.uniform(0.5, 0.9), g.uniform(0.4, 0.5) * np.pi
    polar = np.linspace(0, open_to, 13)
    return _turned(np.sin(polar), -depth * np.cos(polar), closed=False)


def _cup(g: np.random.Generator) -> Mesh:
    height, reach = g.uniform(1.6, 2.6), g.uniform(0.4, 0.7)
    wall = _turned([0, 1, 1], [0, 0, height], closed=False)

    def ear(t: Array) -> Array:
        return np.stack([1 + reach * np.sin(t), np.zeros_like(t), height / 2 + 0.3 * height * np.cos(t)], axis=1)

    return joined([wall, _pipe(ear, np.linspace(0, np.pi, 13), 0.12)], [0, 1])


def _spring(g: np.random.Generator) -> Mesh:
    turns, rise = g.uniform(2.5, 4.5), g.uniform(0.5, 0.8)

    def coil(t: Array) -> Array:
        return np.stack([np.cos(t), np.sin(t), rise * t / (2 * np.pi)], axis=1)

    return _pipe(coil, np.linspace(0, 2 * np.pi * turns, 120), g.uniform(0.1, 0.18))


def _table(g: np.random.Generator) -> Mesh:
    wide, deep, high = g.uniform(1.2, 2.2), g.uniform(0.9, 1.4), g.uniform(0.8, 1.4)
    legs = [(x * (wide / 2 - 0.1), y * (deep / 2 - 0.1)) for x in (-1, 1) for y in (-1, 1)]
    return joined(
        [_box((wide, deep, 0.12), (0, 0, high)), *(_box((0.12, 0.12, high), (x, y, high / 2)) for x, y in legs)],
        [0, 1, 1, 1, 1],
    )


def _chair(g: np.random.Generator) -> Mesh:
    high, back = g.uniform(0.8, 1.1), g.uniform(0.8, 1.3)
    legs = [(x * 0.42, y * 0.42) for x in (-1, 1) for y in (-1, 1)]
    seat, rest = _box((1.0, 1.0, 0.12), (0, 0, high)), _box((1.0, 0.12, back), (0, 0.44, high + back / 2))
    return joined([seat, rest, *(_box((0.12, 0.12, high), (x, y, high / 2)) for x, y in legs)], [0, 1, 2, 2, 2, 2])


def _dumbbell(g: np.random.Generator) -> Mesh:
    polar, length = np.linspace(0, np.pi, 13), g.uniform(2.2, 3.6)
    first = _turned(np.sin(polar), -np.cos(polar), closed=False)
    thick = g.uniform(0.2, 0.35)
    grip = _turned([thick, thick], [0.9, length - 0.9], closed=False)
    return joined([first, _moved(first, (0, 0, length)), grip], [0, 0, 1])


def _arch(g: np.random.Generator) -> Mesh:
    thick, deep = g.uniform(0.2, 0.4), g.uniform(0.4, 0.9)
    angle = np.linspace(0, np.pi, 17)
    inner, outer = 1 - thick, 1.0
    r, y = np.array([inner, inner, outer, outer, inner]), np.array([0, deep, deep, 0, 0])
    bow = _sheet(angle, np.arange(5), lambda a, k: (r[k] * np.cos(a), y[k] + 0 * a, r[k] * np.sin(a)))
    high = g.uniform(0.4, 1.2)
    feet = [_box((thick, deep, high), (x * (1 - thick / 2), deep / 2, -high / 2)) for x in (-1, 1)]
    return joined([bow, *feet], [0, 1, 1])


def _cross(g: np.random.Generator) -> Mesh:
    thick = g.uniform(0.25, 0.45)
    return joined([_box(np.where(np.arange(3) == axis, g.uniform(1.6, 2.4), thick)) for axis in range(3)])


def _saddle(g: np.random.Generator) -> Mesh:
    bend = g.uniform(0.5, 1.0)
    side = np.linspace(-1, 1, 17)
    return _sheet(side, side, lambda x, y: (x, y, bend * (x**2 - y**2)))


def _moebius(g: np.random.Generator) -> Mesh:
    wide = g.uniform(0.3, 0.5)
    return _sheet(
        np.linspace(0, 2 * np.pi, 49),
        np.linspace(-wide, wide, 7),
        lambda a, w: ((1 + w * np.cos(a / 2)) * np.cos(a), (1 + w * np.cos(a / 2)) * np.sin(a), w * np.sin(a / 2)),
    )


# Names of the parts of the classes that have several, in the order of their meshes' numbers.
PARTS: dict[str, tuple[str, ...]] = {
    "cylinder": ("lids", "side"),
    "star": ("lids", "side"),
    "bottle": ("body", "neck"),
    "cup": ("wall", "handle"),
    "table": ("top", "legs"),
    "chair": ("seat", "rest", "legs"),
    "dumbbell": ("weights", "grip"),
    "arch": ("bow", "feet"),
}
# The order is the class's number; a new class goes to the end, so that old numbers keep their meaning.
SOLIDS: dict[str, Solid] = {
    "ellipsoid": _ellipsoid,
    "brick": _brick,
    "cylinder": _cylinder,
    "cone": _cone,
    "torus": _torus,
    "capsule": _capsule,
    "tube": _tube,
    "pyramid": _pyramid,
    "star": _star,
    "bottle": _bottle,
    "bowl": _bowl,
    "cup": _cup,
    "spring": _spring,
    "table": _table,
    "chair": _chair,
    "dumbbell": _dumbbell,
    "arch": _arch,
    "cross": _cross,
    "saddle": _saddle,
    "moebius": _moebius,
}
