"""Pictures: the same bytes everywhere, readable PNG files, objects where the facts say."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from oscar_paddle.datasets.scenes.drawing import RGB, draw_scene, png_bytes
from oscar_paddle.datasets.scenes.placing import sample_scene
from oscar_paddle.datasets.scenes.world import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Scene, SceneObject

PICTURES = "0fc1792f6ccbb989704cc7af29aa8a03481b19dcf6b5f99d01252e74838c40e2"


def draw(*objects, background="sand"):
    return draw_scene(Scene(1, "train", background, tuple(objects), ()), 0).astype(int)


def big(shape="circle", colour="red", texture="plain", centre=(96, 72)):
    return SceneObject(shape, colour, "large", texture, centre=centre, radius=32)


def test_pictures_never_change():
    pixels = b"".join(draw_scene(sample_scene(1, "test", i), 1).tobytes() for i in range(12))
    assert hashlib.sha256(pixels).hexdigest() == PICTURES


@pytest.mark.parametrize("colour", COLOURS)
def test_the_colour_is_the_named_one(colour):
    assert (draw(big(colour=colour))[72, 96] == RGB[colour]).all()


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_have_two_tones_but_plain_has_one(texture):
    inner = draw(big(texture=texture))[60:84, 84:108].reshape(-1, 3)
    share = (inner == RGB["red"]).all(axis=1).mean()
    assert share == 1 if texture == "plain" else 0.25 < share < 0.8


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_changes_its_own_surroundings_only(shape):
    empty, full = draw(), draw(big(shape))
    changed = (empty != full).any(axis=2)
    assert changed[40:105, 64:129].sum() > 700
    changed[34:111, 58:135] = False
    assert not changed.any()


def test_later_objects_cover_earlier_ones():
    image = draw(big(colour="red"), big(colour="blue", centre=(110, 72)))
    assert (image[72, 96] == RGB["blue"]).all()
    assert (image[72, 70] == RGB["red"]).all()


def test_an_object_may_leave_the_picture():
    assert (draw(big(centre=(2, 2)))[1, 1] == RGB["red"]).all()


def test_backgrounds_differ():
    means = np.array([draw(background=name).mean(axis=(0, 1)) for name in BACKGROUNDS])
    distances = np.abs(means[:, None] - means[None]).sum(axis=2)
    assert distances[~np.eye(len(means), dtype=bool)].min() > 20


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (144, 192), (200, 300)])  # the last needs several stored blocks
def test_png_files_hold_the_picture(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(png_bytes(image))).convert("RGB")) == image).all()
