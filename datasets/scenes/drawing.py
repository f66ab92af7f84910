"""Pictures of scenes: a small rasteriser and PNG writer whose bytes are the same on every machine.

Colours are mixed in integers from 3 x 3 sub-pixels per pixel, so edges are smooth without any float rounding. The PNG
is stored, not compressed: compressed bytes depend on the zlib build.
"""

import struct
import zlib

import numpy as np

from oscar_paddle.datasets.scenes.shapes import inside, local_coordinates
from oscar_paddle.datasets.scenes.world import Stream

SAMPLES = 3  # sub-pixels per pixel and axis
OUTLINE = 1.3  # pixels
RGB = {
    "red": (208, 38, 38),
    "orange": (242, 140, 24),
    "yellow": (246, 222, 48),
    "green": (36, 150, 62),
    "blue": (40, 84, 214),
    "purple": (134, 50, 176),
    "pink": (246, 142, 190),
    "brown": (118, 70, 34),
    "black": (34, 34, 38),
    "white": (240, 240, 236),
}
# Colour, spread of the pixel noise, and soft discs upon it (clouds, tufts, stars): number, radius range, added tone.
_GROUNDS = {
    "grass": ((112, 158, 84), 16, 12, (4, 9), (-18, -10, -18)),
    "sky": ((150, 190, 226), 3, 5, (14, 34), (28, 22, 12)),
    "sand": ((222, 198, 150), 12, 6, (6, 18), (-12, -12, -12)),
    "night": ((34, 38, 74), 4, 30, (1, 2), (150, 150, 130)),
    "brick": ((172, 104, 84), 8, 0, (), ()),
    "wood": ((186, 146, 100), 4, 0, (), ()),
}


def noise(stream, low, high, size):
    """An array of whole numbers in [low, high], both ends included (`RandomState`: NumPy has frozen its streams)."""
    return np.random.RandomState(stream.below(2**32)).randint(low, high + 1, size=size)


def draw_scene(scene, seed):
    """The picture of a scene, uint8 [height, width, 3] RGB; the data set's `seed` decides the background's noise."""
    stream = Stream(seed, scene.image_id, "background")
    image = np.clip(_ground(stream, scene.background, scene.height, scene.width), 0, 255)
    for item in scene.objects:
        _draw_object(image, item)
    return image.astype(np.uint8)


def _ground(stream, name, height, width):
    """A background without objects, int64 [height, width, 3]; values may leave 0 to 255."""
    rgb, spread, num_discs, radii, tone = _GROUNDS[name]
    base = np.array([value + stream.between(-10, 10) for value in rgb])
    image = base + noise(stream, -spread, spread, (height, width, 1))
    ys, xs = np.arange(height)[:, None], np.arange(width)
    for _ in range(num_discs):
        x, y, radius = stream.below(width), stream.below(height), stream.between(*radii)
        image[(xs - x) ** 2 + 4 * (ys - y) ** 2 <= radius * radius] += tone
    if name == "sky":
        image += (ys * 30 // height)[..., None]
    if name == "brick":
        tall, wide = stream.between(9, 12), stream.between(20, 26)
        mortar = (ys % tall < 2) | ((xs + (ys // tall % 2) * (wide // 2)) % wide < 2)
        image[mortar] += (36, 70, 84)
    if name == "wood":
        image += noise(stream, -14, 14, (height // 3 + 1, 1, 1)).repeat(3, axis=0)[:height]  # grain
        image[np.arange(height) % stream.between(22, 30) < 2] -= 60  # between the planks
    return image


def _draw_object(image, item):
    """Paint one object over an int picture, in place."""
    window, u, v = local_coordinates(item, image.shape[1], image.shape[0], SAMPLES)
    body = inside(item.shape, u, v)
    grow = 1 + OUTLINE / item.radius
    core = body & inside(item.shape, u * grow, v * grow)
    marked = core & _texture(item.texture, u, v, item.radius)
    light = np.clip(np.array(RGB[item.colour]) + item.shade, 0, 255)
    brightness = int(light @ [3, 6, 1])
    # Stripes and dots: a dark tone on light colours, a light tone on dark ones (so hue stays readable).
    second = (light * 45 + 20 * 55) // 100 if brightness > 1500 else (light * 55 + 255 * 45) // 100
    # Edge line: dark on colours, light on near-black, so that an object shows on every background.
    edge = light * 45 // 100 if brightness > 600 else (light + 2 * 190) // 3
    masks, (rows, columns) = np.stack([core & ~marked, marked, body & ~core]), image[window].shape[:2]
    shares = masks.reshape(3, rows, SAMPLES, columns, SAMPLES).sum(axis=(2, 4))  # sub-pixels of each tone, per pixel
    total = SAMPLES * SAMPLES
    mixed = np.einsum("tyx,tc->yxc", shares, (light, second, edge))
    mixed += image[window] * (total - shares.sum(axis=0))[..., None]
    image[window] = (mixed + total // 2) // total


def _texture(name, u, v, radius):
    """bool: where the second tone is. Bands and dots are about a quarter of the radius wide, but at least 3 pixels."""
    if name == "dotted":
        pitch = max(6.0, 0.46 * radius) / radius
        du, dv = u / pitch - np.floor(u / pitch) - 0.5, v / pitch - np.floor(v / pitch) - 0.5
        return du * du + dv * dv <= 0.11
    width = max(3.0, 0.26 * radius) / radius
    directions = {"plain": (), "striped": (u + v * 0.5,), "checkered": (u, v)}[name]
    return sum(np.floor(along / width + 0.5) for along in directions) % 2 == 1


def png_bytes(image):
    """The PNG file of a picture, uint8 [height, width, 3] RGB.

    Source: PNG specification (chunks, filter type 0); RFC 1950 and 1951 (stored deflate blocks).
    """
    height, width, _ = image.shape
    raw = np.insert(image.reshape(height, -1), 0, 0, axis=1).tobytes()  # first byte of a row: filter type 0
    stream = b"\x78\x01"
    for start in range(0, len(raw), 65535):
        block = raw[start : start + 65535]
        stream += struct.pack("<BHH", start + 65535 >= len(raw), len(block), len(block) ^ 0xFFFF) + block
    stream += struct.pack(">I", zlib.adler32(raw))
    file, header = b"\x89PNG\r\n\x1a\n", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return file
