"""Appearance of a street: light, textures and haze on its surfaces, then the camera's imperfections."""

from dataclasses import dataclass

import cv2
import numpy as np

from clan.streets.scene import FAR, NEAR, Camera, Material, Range, Scene, Surfaces

TILE = 256  # side of the noise tile in texels, a power of two
TEXELS_PER_METRE = 20
TEXTURED_UP_TO = 14.0  # metres; beyond, texture fades out before it could alias
JOINTS = {Material.PAVING: (0.9, 0.9, 0.06), Material.MASONRY: (0.6, 0.3, 0.05)}  # spacings, width: metres


@dataclass(frozen=True)
class Look:
    """Light, textures and camera imperfections; each range is sampled once per image."""

    ambient: Range  # light on every surface
    sunlight: Range  # additional light on surfaces that face the sun
    sun: tuple[float, float, float]  # direction to the sun
    shadow: Range  # fraction of the light lost in shadow
    softness: float  # blur of shadow edges, pixels
    sight: Range  # distance in metres at which haze leaves 1/e of a colour
    haze: np.ndarray  # colour of the haze, float32 RGB [3], 0…1
    clouds: Range  # cloud cover, 0…1
    grain: tuple[float, ...]  # strength of the irregular texture, by `Material`
    joints: tuple[float, ...]  # strength of joints between stones, by `Material`
    balance: tuple[Range, Range, Range]  # factors on red, green and blue
    saturation: Range  # 1: unchanged
    gamma: Range  # above 1: darker midtones
    vignette: Range  # light lost in the corners, 0…1
    blur: Range  # standard deviation of the defocus, pixels
    motion: Range  # length of the horizontal motion blur, pixels
    noise: Range  # standard deviation of the sensor noise
    jpeg: tuple[int, int]  # quality of JPEG compression; 100: none


def shade(look: Look, scene: Scene, surfaces: Surfaces, rng: np.random.Generator) -> np.ndarray:
    """Returns the colours of all visible surfaces, float32 RGB [H, W, 3], about 0…1."""
    number, material = surfaces.number, surfaces.material.take(surfaces.number)
    depth = _depth(scene.camera, surfaces)
    noise, joints = _texture(scene.camera, surfaces, material, depth, rng)

    sun = np.array(look.sun) / np.linalg.norm(look.sun)
    facing = np.maximum(surfaces.normal @ sun, 0)
    light = rng.uniform(*look.ambient) + rng.uniform(*look.sunlight) * facing
    light = light.astype(np.float32).take(number)
    light *= 1 - np.float32(rng.uniform(*look.shadow)) * _shadow_mask(look, scene, material)
    light *= 1 + np.array(look.grain, np.float32).take(material) * noise
    light *= 1 - np.array(look.joints, np.float32).take(material) * joints
    image = surfaces.color.take(number, axis=0)
    image *= light[..., None]

    sky = material == Material.SKY
    cover = np.float32(rng.uniform(*look.clouds)) * np.clip(0.5 + noise[sky], 0, 1)[:, None]
    blue = surfaces.color[number[sky]]
    image[sky] = blue + cover * (0.98 - blue)
    image -= look.haze
    image *= np.exp(depth / np.float32(-rng.uniform(*look.sight)))[..., None]
    image += look.haze
    return image


def _depth(camera: Camera, surfaces: Surfaces) -> np.ndarray:
    """Returns the depth of every pixel in metres, float32 [H, W]."""
    across, up = camera.rays(surfaces.number.shape[1], surfaces.number.shape[0])
    a, b, c = (column.take(surfaces.number) for column in surfaces.inverse_depth.T)
    return 1 / np.clip(a * across + b * up + c, 1 / FAR, 1 / NEAR)


def _shadow_mask(look: Look, scene: Scene, material: np.ndarray) -> np.ndarray:
    """Returns the fraction of sunlight blocked on the ground, float32 [H, W], 0…1; 0 elsewhere."""
    mask = np.zeros(material.shape, np.uint8)
    for outline in scene.shadows:
        corners = np.maximum(outline, (-np.inf, -np.inf, NEAR))
        cv2.fillPoly(mask, [scene.camera.project(corners).clip(-1e5, 1e5).astype(np.int32)], 255)
    on_ground = (material == Material.ROAD) | (material == Material.PAVING)
    return cv2.GaussianBlur(mask, (0, 0), look.softness).astype(np.float32) / 255 * on_ground


def _texture(
    camera: Camera, surfaces: Surfaces, material: np.ndarray, depth: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns irregular noise (mean 0) and joints between stones (0…1) in surface coordinates, float32 [H, W] each.

    Horizontal surfaces are textured in x and z, vertical ones in height and x + z: walls are parallel to an axis.
    """
    across, up = camera.rays(depth.shape[1], depth.shape[0])
    level = (np.abs(surfaces.normal[:, 1]) > 0.5).take(surfaces.number)
    x, y = across * depth + np.float32(camera.eye[0]), up * depth + np.float32(camera.eye[1])
    along, upward = np.where(level, x, x + depth), np.where(level, depth, y)

    sky = material == Material.SKY
    near = np.where(sky, 1, np.minimum(TEXTURED_UP_TO / depth, 1))
    scale = np.where(sky, np.float32(0.35), np.float32(TEXELS_PER_METRE))
    column, row = ((axis * scale).astype(np.int32) & (TILE - 1) for axis in (along, upward))
    noise = _noise_tile(rng).take(row * TILE + column) * near

    joints = np.zeros_like(depth)
    for stone, (spacing, course, gap) in JOINTS.items():
        laid = material == stone
        s, t = along[laid], upward[laid]
        s = s + np.floor(t / course) % 2 * spacing / 2
        joints[laid] = ((s % spacing < gap) | (t % course < gap)) * near[laid]
    return noise, joints


def _noise_tile(rng: np.random.Generator) -> np.ndarray:
    """Returns seamless 1/f noise, float32 [TILE, TILE], mean 0, variance 1."""
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) / frequency
    tile = np.fft.irfft2(spectrum, s=(TILE, TILE))
    return (tile / tile.std()).astype(np.float32)


def photograph(look: Look, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies the camera: float32 RGB [H, W, 3], about 0…1 → uint8 RGB [H, W, 3]."""
    height, width = image.shape[:2]
    gray = image.mean(axis=2, keepdims=True)
    image = gray + np.float32(rng.uniform(*look.saturation)) * (image - gray)
    image = image * np.array([rng.uniform(*factor) for factor in look.balance], np.float32)
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(*look.gamma))
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    image *= 1 - np.float32(rng.uniform(*look.vignette) / 2) * (x[None, :, None] ** 2 + y[:, None, None] ** 2)
    blur, motion = rng.uniform(*look.blur), rng.uniform(*look.motion)
    if blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), sigmaX=np.hypot(blur, motion / 3.5), sigmaY=blur)
    image = image + np.float32(rng.uniform(*look.noise)) * rng.standard_normal(image.shape, np.float32)
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    quality = int(rng.integers(look.jpeg[0], look.jpeg[1] + 1))
    if quality == 100:
        return pixels
    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1]
