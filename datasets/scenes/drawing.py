"""Pictures of scenes: a small rasteriser and PNG writer whose bytes are the same on every machine.

Colours are mixed in integers from 3 x 3 sub-pixels per pixel, so edges are smooth without any float rounding. The PNG
is stored, not compressed: compressed bytes depend on the zlib build.
"""

import struct
import zlib

import numpy as np

from oscar_paddle.datasets.scenes.shapes import extent, inside, local_coordinates
from oscar_paddle.datasets.scenes.world import COLOURS, Stream

SAMPLES = 3  # sub-pixels per pixel and axis
OUTLINE = 1.3  # pixels


def draw_scene(scene, seed):
    """The picture of a scene.

    Args:
        scene: `Scene`.
        seed: seed of the data set; decides the background's noise.
    Returns:
        uint8 [height, width, 3] RGB.
    """
    stream = Stream(seed, scene.image_id, "background")
    image = np.clip(_ground(stream, scene.background, scene.height, scene.width), 0, 255)
    for item in scene.objects:
        _draw_object(image, item)
    return image.astype(np.uint8)


def _draw_object(image, item):
    """Paint one object over an int picture, in place."""
    height, width, _ = image.shape
    x1, y1, x2, y2 = window = extent(item, width, height)
    u, v = local_coordinates(item, window, SAMPLES)
    body = inside(item.shape, u, v)
    grow = 1 + OUTLINE / item.radius
    core = body & inside(item.shape, u * grow, v * grow)
    second = core & _TEXTURES[item.texture](u, v, item.radius)
    light = np.clip(np.array(COLOURS[item.colour]) + item.shade, 0, 255)
    parts = ((core & ~second, light), (second, _second_tone(light)), (body & ~core, _outline_tone(light)))
    shares = [(_pool(mask), tone) for mask, tone in parts]
    total = SAMPLES * SAMPLES
    rest = total - sum(share for share, _ in shares)
    mixed = image[y1:y2, x1:x2] * rest[..., None] + sum(share[..., None] * tone for share, tone in shares)
    image[y1:y2, x1:x2] = (mixed + total // 2) // total


def _pool(mask):
    """Sub-pixels of a mask per pixel, int64 [h, w]."""
    h, w = mask.shape[0] // SAMPLES, mask.shape[1] // SAMPLES
    return mask.reshape(h, SAMPLES, w, SAMPLES).sum(axis=(1, 3))


def _second_tone(rgb):
    """Stripes and dots: a dark tone on light colours, a light tone on dark ones (so hue stays readable)."""
    if int(rgb @ [3, 6, 1]) > 1500:
        return (rgb * 45 + 20 * 55) // 100
    return (rgb * 55 + 255 * 45) // 100


def _outline_tone(rgb):
    """Edge line: dark on colours, light on near-black, so that an object shows on every background."""
    return rgb * 45 // 100 if int(rgb @ [3, 6, 1]) > 600 else (rgb + 2 * 190) // 3


def _bands(coordinate, radius):
    """bool: alternating bands of equal width, about a quarter of the radius but never under 3 pixels."""
    width = max(3.0, 0.26 * radius) / radius
    return np.floor(coordinate / width + 0.5) % 2 == 1


def _dots(u, v, radius):
    pitch = max(6.0, 0.46 * radius) / radius
    du, dv = u / pitch - np.floor(u / pitch) - 0.5, v / pitch - np.floor(v / pitch) - 0.5
    return du * du + dv * dv <= 0.11


_TEXTURES = {
    "plain": lambda u, v, radius: np.zeros(u.shape, bool),
    "striped": lambda u, v, radius: _bands(u + v * 0.5, radius),
    "dotted": _dots,
    "checkered": lambda u, v, radius: _bands(u, radius) ^ _bands(v, radius),
}


# Colour, spread of the pixel noise, and soft discs upon it (clouds, tufts, stars): number, radius range, added tone.
_GROUNDS = {
    "grass": ((112, 158, 84), 16, 12, (4, 9), (-18, -10, -18)),
    "sky": ((150, 190, 226), 3, 5, (14, 34), (28, 22, 12)),
    "sand": ((222, 198, 150), 12, 6, (6, 18), (-12, -12, -12)),
    "night": ((34, 38, 74), 4, 30, (1, 2), (150, 150, 130)),
    "brick": ((172, 104, 84), 8, 0, None, None),
    "wood": ((186, 146, 100), 4, 0, None, None),
}


def _ground(stream, name, height, width):
    """A background without objects, int64 [height, width, 3]; values may leave 0 to 255."""
    rgb, spread, num_discs, radii, tone = _GROUNDS[name]
    base = np.array([value + stream.between(-10, 10) for value in rgb])
    image = base + stream.noise().randint(-spread, spread + 1, size=(height, width, 1))
    ys, xs = np.arange(height)[:, None], np.arange(width)[None, :]
    for _ in range(num_discs):
        x, y, radius = stream.below(width), stream.below(height), stream.between(*radii)
        distance = (xs - x) * (xs - x) + 4 * (ys - y) * (ys - y)
        image[distance <= radius * radius] += np.array(tone)
    if name == "sky":
        image += (ys * 30 // height)[..., None]
    if name == "brick":
        tall, wide = stream.between(9, 12), stream.between(20, 26)
        mortar = (ys % tall < 2) | ((xs + (ys // tall % 2) * (wide // 2)) % wide < 2)
        image[mortar] += np.array((36, 70, 84))
    if name == "wood":
        grain = stream.noise().randint(-14, 15, size=(height // 3 + 1, 1)).repeat(3, axis=0)[:height]
        image += grain[:, :, None]
        image[np.arange(height) % stream.between(22, 30) < 2] -= 60  # between the planks
    return image


def png_bytes(image):
    """A PNG file with stored (uncompressed) pixels.

    Args:
        image: uint8 [height, width, 3] RGB.
    Returns:
        bytes of the file.
    Source: PNG specification (chunks, filter type 0); RFC 1950 and 1951 (stored deflate blocks).
    """
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # first byte of a row: filter type 0
    rows[:, 1:] = image.reshape(height, -1)
    raw = rows.tobytes()
    stream = b"\x78\x01"
    for start in range(0, len(raw), 65535):
        block = raw[start : start + 65535]
        last = start + 65535 >= len(raw)
        stream += struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
    stream += struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
