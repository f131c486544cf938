"""Vehicles, people, street furniture and trees, built from the primitives of `scene.Thing`.

Each function draws one object around the foot point of its `Thing`. Dimensions are metres; variation is from `rng`.
"""

import numpy as np

from clan.streets.scene import Material, Thing, rgb

Color = np.ndarray

BLACK, TYRE, RUBBER = rgb("#16181b"), rgb("#202226"), rgb("#2b2d31")
GLASS, WHITE, CHROME = rgb("#2c3a47"), rgb("#f2f2ee"), rgb("#9a9fa5")
HEADLIGHT, TAILLIGHT = rgb("#fdf6d8"), rgb("#c81e1e")
SIGN_RED, SIGN_BLUE, SIGN_YELLOW = rgb("#cc1f26"), rgb("#1c57b5"), rgb("#f4c20d")
LAMPS = (rgb("#ff3b30"), rgb("#ffb300"), rgb("#2fd058"))
SKINS = tuple(map(rgb, ("#f1c7a3", "#d9a377", "#a9714b", "#6f4630")))
HAIRS = tuple(map(rgb, ("#1d1712", "#4a3222", "#8d6a3a", "#b9b3aa")))


def pick(rng: np.random.Generator, choices: tuple[Color, ...]) -> Color:
    """Returns a random colour of several, slightly lighter or darker."""
    return np.minimum(choices[rng.integers(len(choices))] * rng.uniform(0.88, 1.1), 1)


def at(right: float, up: float, forward: float = 0.0) -> np.ndarray:
    """Returns a point in an object's coordinates as an array."""
    return np.array([right, up, forward])


def car(thing: Thing, rng: np.random.Generator, paint: Color) -> None:
    """A hatchback or saloon, 4.2 m long."""
    tail, lift = rng.choice([-2.0, -1.6]), rng.uniform(1.4, 1.55)
    body = [(-2.1, 0.28), (-2.1, 0.8), (-1.95, 0.95), (1.95, 0.86), (2.1, 0.62), (2.1, 0.28)]
    cabin = [(tail, 0.93), (tail + 0.45, lift), (0.35, lift), (1.15, 0.88)]
    thing.prism([(-1.95, 0.0), (-1.95, 0.4), (1.95, 0.4), (1.95, 0.0)], 1.62, "car", [TYRE] * 5)
    thing.prism(body, 1.8, "car", [paint * 0.92, paint * 0.8, *[paint] * 4, BLACK])
    thing.prism(cabin, 1.55, "car", [paint * 0.95, GLASS, paint, GLASS, paint])
    side = 0.79 * thing.near_side
    for back, front in ((tail + 0.22, -0.5), (-0.4, 0.85)):
        slope = (0.3, 0.02) if back < -1 else (0.02, 0.42)
        corners = [(back, 0.97), (back + slope[0], lift - 0.1), (front - slope[1], lift - 0.1), (front, 0.97)]
        thing.face([(side, up, ahead) for ahead, up in corners], "car", GLASS)
    for forward in (-1.3, 1.32):
        thing.wheel(0.91 * thing.near_side, forward, 0.34, "car", TYRE)
        thing.wheel(0.92 * thing.near_side, forward, 0.19, "car", CHROME)
    lights(thing, "car", length=4.2, width=1.5, up=0.62)


def lights(thing: Thing, name: str, *, length: float, width: float, up: float) -> None:
    """Two lamps, a number plate and a bumper on the visible end."""
    end = thing.near_end * (length / 2 + 0.02)
    lamp = HEADLIGHT if thing.near_end > 0 else TAILLIGHT
    panel(thing, name, RUBBER, (0, up - 0.24, end), (width * 1.15, 0.16))
    for right in (-width / 2, width / 2):
        panel(thing, name, lamp, (right, up, end), (0.34, 0.2))
    panel(thing, name, WHITE, (0, up - 0.1, end), (0.5, 0.12))


def panel(thing: Thing, name: str, color: Color, center: tuple[float, float, float], size: tuple[float, float]) -> None:
    """A rectangle across the direction of travel."""
    (right, up, forward), (width, height) = center, (size[0] / 2, size[1] / 2)
    corners = [(-width, -height), (width, -height), (width, height), (-width, height)]
    thing.face([(right + x, up + y, forward) for x, y in corners], name, color)


def bus(thing: Thing, rng: np.random.Generator, paint: Color) -> None:
    """A city bus, 9 m long."""
    thing.prism([(-4.3, 0.0), (-4.3, 0.5), (4.3, 0.5), (4.3, 0.0)], 2.2, "bus", [TYRE] * 5)
    body = [(-4.5, 0.4), (-4.5, 3.0), (4.5, 3.0), (4.5, 0.4)]
    thing.prism(body, 2.5, "bus", [paint, paint * 0.9, WHITE, paint * 0.9, BLACK])
    side, end = 1.26 * thing.near_side, 4.52 * thing.near_end
    stripe = paint * 0.4 + 0.5
    thing.face([(side, 0.95, -4.5), (side, 1.15, -4.5), (side, 1.15, 4.5), (side, 0.95, 4.5)], "bus", stripe)
    for ahead in np.arange(-4.2, 3.9, 1.4):
        corners = [(ahead, 1.4), (ahead, 2.5), (ahead + 1.25, 2.5), (ahead + 1.25, 1.4)]
        thing.face([(side, up, forward) for forward, up in corners], "bus", GLASS)
    panel(thing, "bus", GLASS, (0, 1.75, end), (2.2, 1.3))
    panel(thing, "bus", BLACK, (0, 2.68, end), (1.7, 0.34))
    panel(thing, "bus", SIGN_YELLOW, (rng.uniform(-0.2, 0.2), 2.68, end), (0.9, 0.18))
    for forward in (-2.7, 2.9):
        thing.wheel(side, forward, 0.48, "bus", TYRE)
        thing.wheel(side, forward, 0.24, "bus", CHROME)
    lights(thing, "bus", length=9.0, width=1.9, up=0.75)


def person(thing: Thing, rng: np.random.Generator, clothes: tuple[Color, ...]) -> None:
    """A standing or walking person, 1.55 to 1.9 m tall."""
    tall, stride, swing = rng.uniform(0.9, 1.1), rng.uniform(0.02, 0.32), rng.uniform(-0.25, 0.25)
    skin, shirt, trousers = pick(rng, SKINS), pick(rng, clothes), pick(rng, clothes) * 0.6
    neck, hip = at(0.0, 1.42) * tall, at(0.0, 0.86) * tall
    for side in (-1, 1):
        foot = at(side * (stride + 0.06), 0.04)
        thing.limb(hip + at(side * 0.07, 0), foot, (0.19, 0.13), "person", trousers)
        thing.limb(foot, foot + at(0.09 * np.sign(swing), 0), (0.1, 0.07), "person", BLACK)
        elbow = neck + at(side * 0.27 + swing / 2, -0.34)
        thing.limb(neck + at(side * 0.19, -0.06), elbow, (0.13, 0.11), "person", shirt * 0.85)
        thing.limb(elbow, elbow + at(swing / 2, -0.26), (0.1, 0.08), "person", skin)
    thing.limb(hip - at(0, 0.06), neck, (0.36, 0.46), "person", shirt)
    if rng.random() < 0.3:
        thing.limb(hip, hip - at(0, 0.42), (0.36, 0.56), "person", shirt)
    head(thing, neck, skin, pick(rng, HAIRS), "person")


def head(thing: Thing, neck: np.ndarray, skin: Color, hair: Color, name: str) -> None:
    """A head with hair, or a helmet in that colour."""
    thing.blob(neck + at(0, 0.2), 0.145, name, hair)
    thing.blob(neck + at(0.02, 0.15), 0.125, name, skin)
    thing.limb(neck + at(-0.13, 0.25), neck + at(0.13, 0.25), (0.14, 0.14), name, hair)


def two_wheeler(thing: Thing, name: str, paint: Color) -> None:
    """A bicycle or a motorcycle, without its rider."""
    heavy = name == "motorcycle"
    radius, base, tube = (0.33, 0.68, 0.16) if heavy else (0.36, 0.54, 0.07)
    hub = CHROME * (0.45 if heavy else 0.75)
    for forward in (-base, base):
        # From behind, a wheel is as wide as its tyre.
        thing.limb((0, 0, forward), (0, 2 * radius, forward), (tube, tube), name, TYRE)
        thing.wheel(0, forward, radius, name, TYRE)
        thing.wheel(0.01 * thing.near_side, forward, radius - tube * 0.9, name, hub)
    bars, saddle, crank = (0, 1.02, base * 0.7), (0, 0.9, -0.24), (0, 0.36, -0.06)
    for start, end in ((bars, (0, radius, base)), (crank, saddle), (crank, bars), ((0, radius, -base), crank)):
        thing.limb(start, end, (tube, tube), name, paint)
    thing.limb((-0.3, 1.04, base * 0.6), (0.3, 1.04, base * 0.6), (0.07, 0.07), name, BLACK)
    thing.limb((0, 0.92, -0.4), (0, 0.92, -0.1), (0.1, 0.08), name, BLACK)
    if heavy:
        thing.limb((0, 0.45, -0.4), (0, 0.5, 0.4), (0.42, 0.4), name, RUBBER)
        thing.limb((0, 0.8, -0.62), (0, 0.78, 0.45), (0.24, 0.36), name, paint)
        end = thing.near_end * 0.7
        thing.limb((0, 0.62, end), (0, 0.84, end), (0.3, 0.26), name, paint * 0.8)
        thing.blob((0, 0.84, end), 0.1, name, HEADLIGHT if thing.near_end > 0 else TAILLIGHT)
    else:
        thing.limb((0, 0.56, -0.18), (0, 0.86, base * 0.72), (tube, tube), name, paint)


def rider(thing: Thing, rng: np.random.Generator, clothes: tuple[Color, ...]) -> None:
    """A rider with a helmet."""
    skin, shirt, trousers = pick(rng, SKINS), pick(rng, clothes), pick(rng, clothes) * 0.55
    hip, neck = at(0, 0.95, -0.22), at(0, 1.45, 0.08)
    for side, pedal in ((-1, 0.5), (1, 0.24)):
        knee, foot = at(side * 0.16, pedal + 0.24, 0.2), at(side * 0.12, pedal - 0.1, -0.02)
        thing.limb(hip + at(side * 0.09, 0), knee, (0.19, 0.16), "rider", trousers)
        thing.limb(knee, foot, (0.15, 0.11), "rider", trousers * 0.9)
        hand = at(side * 0.27, 1.06, 0.36)
        thing.limb(neck + at(side * 0.18, -0.08), hand, (0.13, 0.09), "rider", shirt * 0.85)
    thing.limb(hip, neck, (0.34, 0.42), "rider", shirt)
    head(thing, neck, skin, pick(rng, (SIGN_RED, WHITE, RUBBER, SIGN_BLUE)), "rider")


def lamp_post(thing: Thing, metal: Color) -> None:
    """A street lamp whose arm is over the road, on its left."""
    thing.limb((0, 0, 0), (0, 6.4, 0), (0.2, 0.13), "pole", metal)
    thing.limb((0, 6.4, 0), (-1.3, 6.8, 0), (0.12, 0.1), "pole", metal)
    thing.limb((-1.1, 6.72, 0), (-1.8, 6.86, 0), (0.2, 0.2), "pole", metal * 1.15)


def traffic_light(thing: Thing, rng: np.random.Generator, metal: Color) -> None:
    """Signal heads: one on the post, often another over the road, on its left."""
    tall = rng.random() < 0.6
    thing.limb((0, 0, 0), (0, 5.4 if tall else 3.0, 0), (0.2, 0.15), "pole", metal)
    heads = [(0.0, 2.9)]
    if tall:
        thing.limb((0, 5.3, 0), (-2.6, 5.5, 0), (0.14, 0.1), "pole", metal)
        heads.append((-2.5, 5.3))
    lit = rng.integers(3)
    for right, up in heads:
        thing.limb((right, up - 0.62, 0), (right, up + 0.62, 0), (0.5, 0.5), "light", BLACK)
        for lamp, color in enumerate(LAMPS):
            glow = color if lamp == lit else color * 0.3
            thing.blob((right, up + 0.4 - 0.4 * lamp, 0), 0.17, "light", glow)


def sign(thing: Thing, rng: np.random.Generator, metal: Color) -> None:
    """A traffic sign of one of five kinds."""
    thing.limb((0, 0, 0), (0, 2.5, 0), (0.12, 0.12), "pole", metal)
    kind, center = rng.integers(5), (0.0, 2.45, 0.0)
    if kind < 2:  # a limit or a ban
        thing.blob(center, 0.48, "sign", SIGN_RED)
        thing.blob(center, 0.33, "sign", WHITE)
        if kind:
            thing.limb((-0.2, 2.45, 0), (0.2, 2.45, 0), (0.13, 0.13), "sign", BLACK)
    elif kind == 2:  # a warning
        for size, color in ((0.58, SIGN_RED), (0.33, WHITE)):
            corners = [(-size, -size * 0.6), (size, -size * 0.6), (0, size * 1.1)]
            thing.face([(x, 2.42 + y, 0) for x, y in corners], "sign", color)
    elif kind == 3:  # parking
        panel(thing, "sign", SIGN_BLUE, center, (0.8, 0.8))
        thing.limb((-0.12, 2.2, 0), (-0.12, 2.72, 0), (0.11, 0.11), "sign", WHITE)
        thing.blob((0.03, 2.56, 0), 0.17, "sign", WHITE)
    else:  # priority
        for size, color in ((0.56, WHITE), (0.4, SIGN_YELLOW)):
            thing.face([(-size, 2.45, 0), (0, 2.45 - size, 0), (size, 2.45, 0), (0, 2.45 + size, 0)], "sign", color)


def crown(thing: Thing, rng: np.random.Generator, center: tuple[float, float], radius: float, leaves: Color) -> None:
    """Foliage: overlapping irregular polygons, lighter towards the top."""
    for height in np.sort(rng.uniform(-0.75, 0.75, 8)):
        reach = np.sqrt(1 - height**2) * radius * 0.75
        clump = (center[0] + rng.uniform(-reach, reach), center[1] + height * radius, 0.0)
        outline = radius * rng.uniform(0.42, 0.6) * rng.uniform(0.82, 1.12, 18)
        shade = np.minimum(leaves * (0.88 + 0.25 * height), 1)
        thing.blob(clump, outline, "vegetation", shade, Material.LEAVES)


def tree(thing: Thing, rng: np.random.Generator, leaves: Color, bark: Color) -> None:
    """A street tree; the trunk has class vegetation, as in Cityscapes."""
    height, radius = rng.uniform(3.4, 5.2), rng.uniform(1.3, 2.1)
    for lean in (-0.5, 0.5):
        thing.limb((0, height * 0.5, 0), (lean, height, 0), (0.18, 0.1), "vegetation", bark)
    thing.limb((0, 0, 0), (0, height, 0), (0.36, 0.22), "vegetation", bark)
    crown(thing, rng, (0.0, height + 0.3), radius, leaves)
