"""Random layout of a street: houses, side streets, trees, traffic and pedestrians."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clan.streets import objects
from clan.streets.objects import Color, pick
from clan.streets.scene import TRAIN_ID, Camera, Material, Part, Range, Scene, Wall

Palette = Mapping[str, tuple[Color, ...]]
"""Colours by kind of surface (the keys in `rendered.yaml`); one is picked per object."""

END = 130.0  # distance to the end of the street, metres
STOREY, DEPTH = 3.1, 14.0  # of houses, metres


@dataclass(frozen=True)
class Layout:
    """Contents of a street and position of the camera; each range is sampled once per image, lengths are metres."""

    focal: Range  # focal length / image width
    horizon: Range  # its height from the top / image height
    camera_height: Range
    road: Range  # half the road's width
    sidewalk: Range  # kerb to houses
    storeys: tuple[int, int]  # of a house
    yards: float  # probability of a plot without a house, behind a wall, fence or hedge
    pitched: float  # probability of a pitched roof
    crossing: float  # probability of a side street
    tree_spacing: Range  # between street trees
    parking: float  # probability that a parking bay is occupied
    vehicles: tuple[int, int]  # moving cars and buses
    cyclists: tuple[int, int]  # ridden bicycles and motorcycles
    walkers: tuple[int, int]  # pedestrians
    signs: tuple[int, int]  # on each side of the road
    sun: tuple[Range, Range]  # (x, z) shift of a shadow per metre of height


def build_street(layout: Layout, palette: Palette, width: int, height: int, rng: np.random.Generator) -> Scene:
    """Returns a random street seen by a camera of `width` × `height` pixels."""
    return _Builder(layout, palette, rng).build(width, height)


class _Builder:
    """Builds one street; holds the dimensions that its objects share."""

    def __init__(self, layout: Layout, palette: Palette, rng: np.random.Generator) -> None:
        self.layout, self.palette, self.rng = layout, palette, rng
        self.road = rng.uniform(*layout.road)
        self.front = self.road + rng.uniform(*layout.sidewalk)
        across, ahead = layout.sun
        self.slant = np.array([rng.uniform(*across) * rng.choice([-1, 1]), rng.uniform(*ahead)])
        self.crossing = rng.uniform(13, 34) if rng.random() < layout.crossing else None
        self.crossing_width = rng.uniform(6, 8)
        self.taken: list[tuple[float, float]] = []
        self.instances = 0

    def build(self, width: int, height: int) -> Scene:
        """Builds everything."""
        layout, rng = self.layout, self.rng
        # Traffic drives on the right, and the camera is in a car.
        eye = (self.road * rng.uniform(0.2, 0.4), rng.uniform(*layout.camera_height), 0.0)
        vanishing = (width * rng.uniform(0.42, 0.58), height * rng.uniform(*layout.horizon))
        self.scene = Scene(Camera(eye, rng.uniform(*layout.focal) * width, vanishing))
        self.sky()
        self.ground()
        for side in (-1, 1):
            self.row_of_houses(side)
            self.kerbside(side)
        self.backdrop()
        self.traffic()
        self.passers_by()
        return self.scene

    # --- the ground -----------------------------------------------------------------------------

    def sky(self) -> None:
        """Adds the sky as a horizontal plane, so that haze increases towards the horizon."""
        corners = np.array([(-9e3, 25, 2), (9e3, 25, 2), (9e3, 25, 9e3), (-9e3, 25, 9e3)], np.float64)
        thing = self.scene.add(9e3)
        thing.parts.append(Part(corners, TRAIN_ID["sky"], pick(self.rng, self.palette["sky"]), Material.SKY, 0))

    def ground(self) -> None:
        """Adds the sidewalk, the road with its side street, and road markings."""
        ground, road = self.scene.add(END * 3), pick(self.rng, self.palette["road"])
        paving, marking = pick(self.rng, self.palette["paving"]), pick(self.rng, self.palette["marking"])

        def strip(x: Range, z: Range, name: str, color: Color, material: Material) -> None:
            corners = [(x[0], 0, z[0]), (x[1], 0, z[0]), (x[1], 0, z[1]), (x[0], 0, z[1])]
            ground.face(corners, name, color, material)

        strip((-90, 90), (0, END * 2), "sidewalk", paving, Material.PAVING)
        for x in (-self.road, self.road):
            strip((x - 0.18, x + 0.18), (0, END), "sidewalk", paving * 1.12, Material.PLAIN)
        strip((-self.road, self.road), (0, END), "road", road, Material.ROAD)
        for x in (-self.road, self.road - 0.3):
            strip((x, x + 0.3), (0, END), "road", road * 0.8, Material.ROAD)
        for z in np.arange(self.rng.uniform(0, 6), 70, 6):
            strip((-0.08, 0.08), (z, z + 3), "road", marking, Material.ROAD)
        if self.crossing is not None:
            z = self.crossing
            strip((-90, 90), (z, z + self.crossing_width), "road", road, Material.ROAD)
            for x in np.arange(-self.road + 0.5, self.road - 0.5, 1.0):
                strip((x, x + 0.5), (z - 3.6, z - 1.0), "road", marking, Material.ROAD)
            strip((0.1, self.road), (z - 4.8, z - 4.4), "road", marking, Material.ROAD)

    def shadow(self, x: float, z: float, radii: Range, height: float) -> None:
        """Adds the shadow of an object of this `height` on an elliptic base (x and z radii)."""
        angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        center = np.array([x, z]) + self.slant * height / 2
        reach = np.array(radii) + np.abs(self.slant) * height / 2
        outline = center + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        self.scene.shadows.append(np.insert(outline, 1, 0.0, axis=1))

    def shadow_of_row(self, side: int, start: float, end: float, height: float) -> None:
        """Adds the shadow of a house front if it falls on the street."""
        edge, reach = side * self.front, self.slant[0] * height
        if reach * side < 0:
            corners = [(edge, 0, start), (edge + reach, 0, start), (edge + reach, 0, end), (edge, 0, end)]
            self.scene.shadows.append(np.array(corners))

    # --- along the street -----------------------------------------------------------------------

    def row_of_houses(self, side: int) -> None:
        """Adds houses and yards up to the end of the street, except where the side street is."""
        z, neighbour = self.rng.uniform(-6, 0), 0.0
        gap = (END, END) if self.crossing is None else (self.crossing, self.crossing + self.crossing_width)
        while z < END:
            end = z + self.rng.uniform(7, 14)
            if z < gap[0] < end + 5:
                end = gap[0] - 2.5
            if end - z > 4:
                yard = self.rng.random() < self.layout.yards
                neighbour = self.yard(side, z, end) if yard else self.house(side, z, end, neighbour)
            if end == gap[0] - 2.5:
                end, neighbour = gap[1] + 2.5, 0.0
            z = end

    def house(self, side: int, start: float, end: float, neighbour: float) -> float:
        """Adds a house with a front on the street and a gable facing the camera.

        Returns the height up to which it occludes the next house; `neighbour` is that of the previous house.
        """
        rng, palette, x = self.rng, self.palette, side * self.front
        storeys = int(rng.integers(self.layout.storeys[0], self.layout.storeys[1] + 1))
        top = storeys * STOREY + 0.6
        paint, trim = pick(rng, palette["houses"]), pick(rng, palette["trims"])
        thing = self.scene.add(end)
        gable = Wall(thing, "building", (x, start), (side, 0))
        front = Wall(thing, "building", (x, 0), (0, 1))
        gable.panel((0, DEPTH), (0, top), paint, Material.MASONRY)
        front.panel((start, end), (0, top), paint, Material.MASONRY)
        if rng.random() < self.layout.pitched:
            ridge = (x + side * DEPTH / 2, top + 3.0)
            peak = [(x, top, start), (*ridge, start), (x + side * DEPTH, top, start)]
            slope = [(x, top, start), (x, top, end), (*ridge, end), (*ridge, start)]
            thing.face(peak, "building", paint, Material.MASONRY)
            thing.face(slope, "building", pick(rng, palette["roofs"]), Material.MASONRY)
        front.panel((start, end), (top - 0.35, top), trim)
        gable.panel((0, DEPTH), (top - 0.35, top), trim)
        if start < 45:  # farther away windows are smaller than a pixel
            glass, shop = pick(rng, palette["windows"]), rng.random() < 0.45
            self.windows(front, (start, end), range(int(shop), storeys), trim, glass)
            self.windows(gable, (0.5, DEPTH - 0.5), range(math.ceil(neighbour / STOREY), storeys), trim, glass)
            self.entrance(front, (start, end), glass, shop=shop)
        self.shadow_of_row(side, start, end, top)
        return top

    def windows(self, wall: Wall, along: Range, storeys: range, trim: Color, glass: Color) -> None:
        """Adds rows of framed windows."""
        bays = max(int((along[1] - along[0]) / self.rng.uniform(2.0, 2.8)), 1)
        pitch = (along[1] - along[0]) / bays
        for level in storeys:
            sill = level * STOREY + 1.0
            for bay in range(bays):
                left, right = along[0] + pitch * (bay + 0.27), along[0] + pitch * (bay + 0.73)
                wall.panel((left - 0.12, right + 0.12), (sill - 0.14, sill + 1.72), trim)
                wall.panel((left, right), (sill, sill + 1.6), glass * self.rng.uniform(0.75, 1.2))

    def entrance(self, front: Wall, along: Range, glass: Color, *, shop: bool) -> None:
        """Adds a shop window with a sign, or a door."""
        (start, end), paint = along, pick(self.rng, self.palette["shops"])
        if shop:
            front.panel((start + 0.5, end - 0.5), (0.4, 2.5), glass)
            front.panel((start + 0.3, end - 0.3), (2.5, 3.1), paint)
        else:
            door = self.rng.uniform(start + 1, end - 2)
            front.panel((door, door + 1.2), (0, 2.3), paint * 0.7)

    def yard(self, side: int, start: float, end: float) -> float:
        """Adds trees behind a wall, fence or hedge; returns 0, the height up to which it occludes the next house."""
        rng, palette, x = self.rng, self.palette, side * self.front
        for z in np.arange(start + 2, min(end, 80), 3.5):
            behind = self.scene.add(end + 0.1, (x + side * rng.uniform(2.8, 4.2), z))
            leaves = pick(rng, palette["leaves"])
            objects.crown(behind, rng, (0.0, rng.uniform(3.2, 4.2)), 2.4, leaves)
        kind = rng.choice(["wall", "fence", "vegetation"], p=[0.4, 0.4, 0.2])
        edge = Wall(self.scene.add(end), kind, (x, 0), (0, 1))
        if kind == "wall":
            wall = pick(rng, palette["walls"])
            edge.panel((start, end), (0, 2.1), wall, Material.MASONRY)
            edge.panel((start, end), (2.1, 2.3), wall * 1.15)
        elif kind == "fence":
            color = pick(rng, palette["fences"])
            edge.panel((start, end), (0, 1.7), color * 0.55)
            for z in np.arange(max(start, 2.0), min(end, 60), 0.55):
                edge.panel((z, z + 0.3), (0.1, 1.85), color)
            edge.panel((start, end), (1.35, 1.5), color * 1.1)
        else:
            edge.panel((start, end), (0, 1.7), pick(rng, palette["leaves"]) * 0.8, Material.LEAVES)
        return 0.0

    def backdrop(self) -> None:
        """Adds the houses that close the street."""
        for x in np.arange(-70, 70, 9.0):
            tall = self.rng.uniform(6, 15)
            wall = Wall(self.scene.add(END + 1), "building", (x, END), (1, 0))
            wall.panel((0, 9), (0, tall), pick(self.rng, self.palette["houses"]))

    def clear_of_crossing(self, z: float, margin: float = 2.0) -> bool:
        """Whether z is outside the side street."""
        if self.crossing is None:
            return True
        return not self.crossing - margin < z < self.crossing + self.crossing_width + margin

    def kerbside(self, side: int) -> None:
        """Adds trees, lamps, traffic lights, signs and parked cars along one kerb."""
        rng, palette, edge = self.rng, self.palette, side * (self.road + 0.5)
        facing, metal = (0.0 if side > 0 else np.pi), pick(rng, palette["metal"])
        spacing = rng.uniform(*self.layout.tree_spacing)
        for z in np.arange(rng.uniform(7, 7 + spacing), 75, spacing):
            if self.clear_of_crossing(z):
                x = edge + side * 0.4
                objects.tree(self.scene.add(z, (x, z)), rng, pick(rng, palette["leaves"]), pick(rng, palette["bark"]))
                self.shadow(x, z, (1.4, 1.4), 4.5)
        for z in np.arange(rng.uniform(9, 24), 75, 22):
            objects.lamp_post(self.scene.add(z, (edge, z), facing), metal)
        for z in rng.uniform(7, 30, rng.integers(self.layout.signs[0], self.layout.signs[1] + 1)):
            objects.sign(self.scene.add(z, (edge, z)), rng, metal)
        signal = self.crossing - 0.9 if self.crossing is not None else rng.uniform(12, 26)
        objects.traffic_light(self.scene.add(signal, (edge - side * 0.2, signal), facing), rng, metal)
        for z in np.arange(rng.uniform(8, 12), 56, 5.6):
            if rng.random() < self.layout.parking and self.clear_of_crossing(z, 4.5):
                self.vehicle(side * (self.road - 1.05), z, 0.0 if side > 0 else np.pi, bus=False)

    # --- traffic --------------------------------------------------------------------------------

    def vehicle(self, x: float, z: float, yaw: float, *, bus: bool) -> None:
        """Adds a car or a bus unless another vehicle is too near."""
        half = 5.0 if bus else 2.6
        if any(abs(x - other) < 2.0 and abs(z - place) < half + 2.2 for other, place in self.taken):
            return
        self.taken.append((x, z))
        thing = self.scene.add(z, (x, z), yaw + self.rng.normal(0, 0.02), self.next_instance())
        if bus:
            objects.bus(thing, self.rng, pick(self.rng, self.palette["buses"]))
        else:
            objects.car(thing, self.rng, pick(self.rng, self.palette["vehicles"]))
        self.shadow(x, z, (1.1, half - 0.4), 1.2)

    def next_instance(self) -> int:
        """Returns the next instance number, from 1."""
        self.instances += 1
        return self.instances

    def count(self, limits: tuple[int, int]) -> range:
        """Returns a range of random length within inclusive limits."""
        return range(self.rng.integers(limits[0], limits[1] + 1))

    def traffic(self) -> None:
        """Adds moving vehicles, cyclists and parked two-wheelers."""
        rng, lane = self.rng, self.road * 0.34
        for _ in self.count(self.layout.vehicles):
            away = rng.random() < 0.5
            bus = rng.random() < 0.35
            z = rng.uniform(16 if bus else 10, 48)
            self.vehicle(lane if away else -lane, z, 0.0 if away else np.pi, bus=bus)
        for _ in self.count(self.layout.cyclists):
            side, z = rng.choice([-1, 1]), rng.uniform(6, 20)
            x = side * self.road * rng.uniform(0.05, 0.66)
            yaw = (0.0 if side > 0 else np.pi) + rng.choice([-1, 1]) * rng.uniform(0.3, 1.2)
            if not any(abs(x - other) < 1.5 and abs(z - place) < 3.5 for other, place in self.taken):
                self.taken.append((x, z))
                self.two_wheeler(x, z, yaw, ridden=True)
        for _ in self.count((0, 2)):
            side, z = rng.choice([-1, 1]), rng.uniform(7, 18)
            x = side * (self.road + rng.uniform(0.9, 1.6))
            self.two_wheeler(x, z, rng.choice([-1, 1]) * rng.uniform(0.7, 1.5), ridden=False)

    def two_wheeler(self, x: float, z: float, yaw: float, *, ridden: bool) -> None:
        """Adds a bicycle or motorcycle, with or without a rider."""
        name = self.rng.choice(["bicycle", "motorcycle"])
        thing = self.scene.add(z, (x, z), yaw, self.next_instance())
        objects.two_wheeler(thing, name, pick(self.rng, self.palette["vehicles"]))
        if ridden:
            thing.instance = self.next_instance()
            objects.rider(thing, self.rng, self.palette["clothes"])
        self.shadow(x, z, (0.4, 0.6), 1.2)

    def passers_by(self) -> None:
        """Adds pedestrians on the sidewalks and on the zebra crossing."""
        rng = self.rng
        for _ in self.count(self.layout.walkers):
            side, z = rng.choice([-1, 1]), rng.uniform(6, 28)
            x = side * rng.uniform(self.road + 0.5, self.front - 0.5)
            if self.crossing is not None and rng.random() < 0.25:
                x, z = rng.uniform(-self.road, self.road), self.crossing - 2.3
            objects.person(self.scene.add(z, (x, z), 0.0, self.next_instance()), rng, self.palette["clothes"])
            self.shadow(x, z, (0.3, 0.25), 1.6)
