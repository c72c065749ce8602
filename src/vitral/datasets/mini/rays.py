"""Ray-traces solids: one ray per sample, Lambertian shading.

The world is right-handed with z up; lengths are in world units. Vectors are along the first axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vitral.datasets.mini.drawing import SIZE, Picture, samples, shrink

__all__ = ["FORMS", "PER_PIXEL", "Camera", "Solid", "light_from", "render"]

PER_PIXEL = 2
"""Rays along each side of a pixel."""

AMBIENT = 0.35
"""Fraction of ambient light."""

Vectors = Float64[np.ndarray, "3 h w"]
Plane = Float64[np.ndarray, "h w"]
Origin = Float64[np.ndarray, "3 1 1"]
Point = Float64[np.ndarray, "3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Solid:
    """A ball, box or upright cylinder, scaled along its axes and rotated about the vertical."""

    form: str
    centre: Point
    half: Point
    """Half its length, width and height."""
    turn: float = 0.0
    """Counter-clockwise seen from above, in radians."""
    colour: Float64[np.ndarray, "3"]

    @property
    def reach(self) -> float:
        """Radius of its bounding sphere."""
        return math.sqrt(float((self.half * self.half).sum()))


class Camera:
    """A pinhole camera that looks at the origin of the world."""

    def __init__(self, *, azimuth: float, elevation: float, distance: float, focal: float) -> None:
        """Positions the camera.

        Args:
            azimuth: of its position, counter-clockwise from the x axis seen from above, in radians.
            elevation: above the horizon, in radians.
            distance: to the origin.
            focal: focal length in pixels.
        """
        sine, cosine = math.sin(elevation), math.cos(elevation)
        self.forward = -np.array([math.cos(azimuth) * cosine, math.sin(azimuth) * cosine, sine])
        self.right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
        self.up = np.array([-math.cos(azimuth) * sine, -math.sin(azimuth) * sine, cosine])
        self.position = -distance * self.forward
        self.focal = focal

    def depth(self, point: Point) -> float:
        """Depth of a point along the line of sight."""
        return float((self.forward * (point - self.position)).sum())

    def project(self, point: Point) -> tuple[float, float]:
        """Projects a point: horizontal and vertical position in pixels from the upper left corner."""
        scale = self.focal / self.depth(point)
        offset = point - self.position
        across, up = float((self.right * offset).sum()), float((self.up * offset).sum())
        return SIZE / 2 + across * scale, SIZE / 2 - up * scale

    def rays(self, rows: slice, columns: slice) -> Vectors:
        """Ray directions through samples of the canvas, with a depth of one."""
        positions = (samples(PER_PIXEL) - SIZE / 2) / self.focal
        across, down = positions[columns][None, None, :], positions[rows][None, :, None]
        forward, right, up = (axis[:, None, None] for axis in (self.forward, self.right, self.up))
        return forward + right * across - up * down

    def window(self, solid: Solid) -> tuple[slice, slice]:
        """Rows and columns of samples that may show a solid."""
        (across, down), depth = self.project(solid.centre), self.depth(solid.centre)
        # the projection of a ball away from the optical axis is elongated
        radius = 1.2 * self.focal * solid.reach / (depth - solid.reach)
        return _span(down, radius), _span(across, radius)


def _span(middle: float, radius: float) -> slice:
    """Samples within a radius in pixels of a position."""
    first, last = math.floor((middle - radius) * PER_PIXEL), math.ceil((middle + radius) * PER_PIXEL)
    return slice(*np.clip((first, last), 0, SIZE * PER_PIXEL).tolist())


def light_from(around: float, height: float) -> Point:
    """The direction to a light, of length one.

    Args:
        around: counter-clockwise from the x axis seen from above, as a fraction of a full turn.
        height: of its end above the ground, 0 to 1.
    """
    angle, flat = 2 * math.pi * around, math.sqrt(1 - height * height)
    return np.array([math.cos(angle) * flat, math.sin(angle) * flat, height])


def render(camera: Camera, solids: Sequence[Solid], *, light: Point, ground: Float64[np.ndarray, "H W 3"]) -> Picture:
    """Renders solids on a background.

    Args:
        camera: the viewpoint.
        solids: in any order.
        light: direction to it, of length one.
        ground: colours of the background, for each sample.
    """
    picture = ground.copy()
    depths = np.full(picture.shape[:2], np.inf)
    for solid in solids:
        rows, columns = camera.window(solid)
        depth, brightness = _trace(camera, solid, light, rows, columns)
        nearer = depth < depths[rows, columns]
        depths[rows, columns][nearer] = depth[nearer]
        picture[rows, columns][nearer] = brightness[nearer][:, None] * solid.colour
    return shrink(picture)


def _trace(camera: Camera, solid: Solid, light: Point, rows: slice, columns: slice) -> tuple[Plane, Plane]:
    """Depth of each sample (infinite outside the solid) and its brightness."""
    rays = camera.rays(rows, columns)
    cosine, sine = math.cos(solid.turn), math.sin(solid.turn)
    origin = _to_solid_axes(camera.position - solid.centre, cosine, sine) / solid.half
    depth, normal = FORMS[solid.form](
        origin[:, None, None], _to_solid_axes(rays, cosine, sine) / solid.half[:, None, None]
    )
    normal = normal / solid.half[:, None, None]
    towards = _to_solid_axes(light, cosine, sine)
    facing = (normal[0] * towards[0] + normal[1] * towards[1] + normal[2] * towards[2]) / np.sqrt(
        normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2
    )
    return depth, AMBIENT + (1 - AMBIENT) * facing.clip(0)


def _to_solid_axes(vectors: Float64[np.ndarray, "3 ..."], cosine: float, sine: float) -> Float64[np.ndarray, "3 ..."]:
    """From world axes to the axes of a solid."""
    x, y, z = vectors
    return np.stack([cosine * x + sine * y, cosine * y - sine * x, z])


def _ball(origin: Origin, rays: Vectors) -> tuple[Plane, Vectors]:
    """Depth and normal where rays hit the unit ball."""
    depth = _round(origin, rays, 3)
    return depth, origin + np.where(np.isfinite(depth), depth, 0) * rays


def _box(origin: Origin, rays: Vectors) -> tuple[Plane, Vectors]:
    """Depth and normal where rays hit the cube from -1 to 1."""
    side = np.where(rays < 0, 1.0, -1.0)
    enter, leave = (side - origin) / rays, (-side - origin) / rays
    face = enter.argmax(0)
    depth = enter.max(0)
    normal = np.where(np.arange(3)[:, None, None] == face, side, 0.0)
    return np.where(depth < leave.min(0), depth, np.inf), normal


def _cylinder(origin: Origin, rays: Vectors) -> tuple[Plane, Vectors]:
    """Depth and normal where rays from above hit the upright cylinder of radius one, from -1 to 1."""
    top = (1 - origin[2]) / rays[2]
    hit = origin + top * rays
    on_top = hit[0] ** 2 + hit[1] ** 2 < 1
    depth = _round(origin, rays, 2)
    hit = origin + np.where(np.isfinite(depth), depth, 0) * rays
    depth = np.where(np.abs(hit[2]) < 1, depth, np.inf)
    normal = np.where(on_top, np.array([0.0, 0.0, 1.0])[:, None, None], hit * np.array([1.0, 1.0, 0.0])[:, None, None])
    return np.where(on_top, top, depth), normal


def _round(origin: Origin, rays: Vectors, axes: int) -> Plane:
    """Depth where rays hit the unit sphere of the first `axes` coordinates."""
    square = sum(rays[axis] ** 2 for axis in range(axes))
    middle = sum(origin[axis] * rays[axis] for axis in range(axes))
    rest = middle**2 - square * (sum(origin[axis] ** 2 for axis in range(axes)) - 1)
    return np.where(rest > 0, (-middle - np.sqrt(np.maximum(rest, 0))) / square, np.inf)


FORMS = {"ball": _ball, "box": _box, "cylinder": _cylinder}
"""By form (half size one): the depth where rays hit it, infinite if they miss, and an unnormalised normal."""
