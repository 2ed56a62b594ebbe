"""Draw the embedded data set: the same pictures in COCO instance and in ADE20K layout.

    OUT/coco/{train,val}/000000.jpg            OUT/ade/images/{training,validation}/000000.jpg
    OUT/coco/annotations/{train,val}.json      OUT/ade/annotations/{training,validation}/000000.png
    OUT/imagenet/{train,val}/CLASS/000000.png

COCO category ids and ADE20K labels agree: things are 1..5, stuff is 6..8. Label 0 (ignored with
`reduce_zero_label=True`) is the strip between two kinds of stuff where neither prevails.

The pictures in ImageNet layout are others: half as high, square, one thing on each, as large in
pixels as in the other two sets, and in half of them partly hidden behind stuff.
"""

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_api

from mmca.errors import InputError

VERSION = 1  # raise it whenever the pictures or the files change
LAYOUTS = ('coco', 'ade', 'imagenet')
# Hue (degrees) and saturation, then layers of noise: (strength, cell height, cell width in pixels).
STUFF_LOOK = {
    'grass': (80, 0.45, ((0.20, 7, 1.5), (0.14, 3, 2), (0.12, 28, 28))),
    'sand': (42, 0.32, ((0.13, 1.2, 1.2), (0.08, 4, 5), (0.10, 30, 40))),
    'water': (190, 0.42, ((0.17, 2.5, 14), (0.10, 2, 5), (0.12, 20, 45))),
}
# Usual hue and pattern, then contours: (corners, radii that take turns); a second one is a hole.
THING_LOOK = {
    'disc': (10, 'blotches', ((48, 1),)),
    'square': (75, 'stripes', ((4, 1.15),)),
    'triangle': (150, 'speckles', ((3, 1.2),)),
    'star': (225, 'shading', ((10, 1.2, 0.55),)),
    'ring': (300, 'checks', ((48, 1.05), (48, 0.55))),
}
THINGS = tuple(THING_LOOK)
STUFF = tuple(STUFF_LOOK)
HUE_SCATTER = 25  # the hues are 65 to 85 apart: colour tells most, shape and pattern the rest
OWN_PATTERN = 0.85  # probability that a thing wears the pattern of its class
RADIUS = (0.08, 0.24)  # of the picture's shorter side
MIN_VISIBLE = 0.3  # of the area of a thing, the part outside the picture included
PORTRAITS = 4  # pictures in ImageNet layout for each in the other two: they are a fifth as large
HIDDEN = 0.5  # probability that stuff stands before the thing of a portrait


def noise(rng: np.random.Generator, shape: tuple, cell_h: float, cell_w: float) -> np.ndarray:
    """Smooth noise (H, W) of mean 0 and deviation 1, its lattice made of cells of that size."""
    h, w = shape
    lattice = rng.standard_normal((max(round(h / cell_h), 3), max(round(w / cell_w), 3)))
    field = cv2.resize(lattice, (w, h), interpolation=cv2.INTER_CUBIC)
    return (field - field.mean()) / field.std()


def paint(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The BGR picture (H, W, 3) in 0..1 of hue (degrees), saturation and value, each (H, W)."""
    hsv = np.stack([hue % 360, saturation.clip(0, 1), value.clip(0, 1)], axis=-1)
    return cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2BGR)


def draw_stuff(rng: np.random.Generator, name: str, shape: tuple) -> np.ndarray:
    """The picture (H, W, 3) of one kind of stuff."""
    hue, saturation, layers = STUFF_LOOK[name]
    relief = sum(strength * noise(rng, shape, *cell) for strength, *cell in layers)
    return paint(
        hue + rng.normal(0, 18) + 14 * noise(rng, shape, 24, 24),
        saturation + rng.normal(0, 0.08) - 0.3 * relief,
        rng.uniform(0.4, 0.65) * (1 + relief),
    )


def draw_border(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """A wavy border across the picture: 0 on one side, 1 on the other (H, W)."""
    h, w = shape
    y, x = np.mgrid[:h, :w]
    angle = rng.uniform(0, 2 * np.pi)
    side = (x - rng.uniform(0.25, 0.75) * w) * np.cos(angle)
    side += (y - rng.uniform(0.25, 0.75) * h) * np.sin(angle)
    side += 0.07 * min(h, w) * noise(rng, shape, h / 4, w / 4) + 0.6 * noise(rng, shape, 2, 2)
    return 1 / (1 + np.exp(-side.clip(-20, 20)))


def draw_ground(rng: np.random.Generator, shape: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Two kinds of stuff on the sides of a border: picture (H, W, 3) and labels (H, W)."""
    share = draw_border(rng, shape)
    first, second = rng.permutation(len(STUFF))[:2]
    labels = 1 + len(THINGS) + np.where(share > 0.5, first, second).astype(np.uint8)
    labels[abs(share - 0.5) < 0.25] = 0
    share = share[..., None]
    picture = share * draw_stuff(rng, STUFF[first], shape)
    return picture + (1 - share) * draw_stuff(rng, STUFF[second], shape), labels


def turn(angle: float) -> np.ndarray:
    """The rotation matrix (2, 2) of an angle."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def coverage(contours: list[np.ndarray], shape: tuple) -> np.ndarray:
    """The share (H, W) of each pixel within the contours, found on a grid four times as fine."""
    h, w = shape
    fine = np.zeros((4 * h, 4 * w), np.uint8)
    cv2.fillPoly(fine, [np.round(64 * c).astype(np.int32) for c in contours], 255, shift=4)
    return cv2.resize(fine, (w, h), interpolation=cv2.INTER_AREA) / 255


def draw_pattern(rng: np.random.Generator, name: str, uv: np.ndarray, radius: float) -> np.ndarray:
    """A pattern (H, W), about -1..1, in the thing's own coordinates uv (2, H, W)."""
    u, v = uv
    wave = 2 * np.pi / max(1, 12 / radius) / rng.uniform(0.4, 0.65)  # small things: fewer waves
    return {
        'blotches': lambda: 0.8 * noise(rng, u.shape, radius / 2, radius / 2),
        'stripes': lambda: np.sin(wave * u),
        'speckles': lambda: 2.5 * (noise(rng, u.shape, 2.5, 2.5) > 1) - 0.4,
        'shading': lambda: 1 - 1.6 * np.hypot(u, v),
        'checks': lambda: 1.4 * np.sin(wave * u) * np.sin(wave * v),
    }[name]()


def draw_thing(
    rng: np.random.Generator, name: str, shape: tuple, light: np.ndarray, scale: float = 1.0
) -> tuple:
    """A thing in a random place and pose, lit from the direction `light` (2,).

    Its radius is `scale` times `RADIUS`.

    Returns:
        Its surface (H, W, 3), its coverage (H, W), its shadow's (H, W), and its whole area in
        pixels, the part outside the picture included.
    """
    h, w = shape
    hue, pattern, polygons = THING_LOOK[name]
    radius = scale * min(shape) * np.exp(rng.uniform(*np.log(RADIUS)))
    centre = rng.uniform(0, 1, 2) * (w, h)
    stretch = np.exp(rng.uniform(-0.13, 0.13))
    pose = radius * turn(rng.uniform(0, np.pi)) @ np.diag([stretch, 1 / stretch])
    pose = pose @ turn(rng.uniform(0, 2 * np.pi))
    contours = []
    for corners, *radii in polygons:
        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        unit = np.resize(radii, corners) * (np.cos(angle), np.sin(angle))
        contours.append((pose @ unit).T + centre)
    area, *hole = (cv2.contourArea(c.astype(np.float32)) for c in contours)
    drop = light * radius * rng.uniform(0.15, 0.35)
    shadow = cv2.GaussianBlur(coverage([c - drop for c in contours], shape), (0, 0), 0.12 * radius)

    y, x = np.mgrid[:h, :w]
    away = np.stack([x + 0.5 - centre[0], y + 0.5 - centre[1]])
    uv = np.tensordot(np.linalg.inv(pose), away, axes=1)
    if rng.random() > OWN_PATTERN:
        pattern = THING_LOOK[rng.choice(THINGS)][1]
    relief = rng.uniform(0.16, 0.3) * draw_pattern(rng, pattern, uv, radius)
    relief += 0.06 * noise(rng, shape, 2, 2)
    lit = 0.12 / radius * np.tensordot(light, away, axes=1)
    surface = paint(
        hue + rng.normal(0, HUE_SCATTER) + 30 * relief,
        rng.uniform(0.25, 0.7) - 0.3 * relief,
        rng.uniform(0.4, 0.8) * (1 + relief + lit),
    )
    return surface, coverage(contours, shape), shadow, area - sum(hole)


def expose(rng: np.random.Generator, picture: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Light from one side, blur and grain: picture (H, W, 3) in 0..1 -> the same, uint8."""
    h, w, _ = picture.shape
    y, x = np.mgrid[:h, :w]
    ramp = (x / w - 0.5) * light[0] + (y / h - 0.5) * light[1]
    shade = 1 + rng.uniform(0, 0.7) * ramp + 0.08 * noise(rng, (h, w), 50, 50)
    picture = cv2.GaussianBlur(picture * shade[..., None], (0, 0), rng.uniform(0.35, 0.8))
    picture += rng.normal(0, rng.uniform(0.01, 0.035), picture.shape)
    return (255 * picture.clip(0, 1)).round().astype(np.uint8)


def draw_picture(entropy: tuple, size: tuple) -> tuple[np.ndarray, np.ndarray, list]:
    """Draw one picture of (width, height) from the random stream of (seed, split, index).

    Returns:
        The bytes of the JPEG file, the label map (H, W), both uint8, and the things as pairs
        (label, visible mask (H, W)), the farthest first.
    """
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    w, h = size
    picture, labels = draw_ground(rng, (h, w))
    light = turn(rng.uniform(0, 2 * np.pi)) @ (1, 0)
    count = rng.integers(2, 7)
    things = []  # (label, visible mask, whole area)
    while len(things) < count:
        label = int(rng.integers(len(THINGS))) + 1
        surface, cover, shadow, area = draw_thing(rng, THINGS[label - 1], (h, w), light)
        mask = cover > 0.5
        after = [(n, seen & ~mask, whole) for n, seen, whole in things] + [(label, mask, area)]
        if any(seen.sum() < MIN_VISIBLE * whole for _, seen, whole in after):
            continue  # it would be, or would leave, a mere shred: draw another
        things = after
        picture *= 1 - 0.5 * shadow[..., None]
        picture += cover[..., None] * (surface - picture)
        labels[mask] = label
    picture = expose(rng, picture, light)
    quality = int(rng.integers(70, 96))
    jpeg = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return jpeg, labels, [thing[:2] for thing in things]


def draw_portrait(entropy: tuple, name: str, side: int) -> np.ndarray:
    """Draw one picture (side, side, 3), uint8, of one thing, from the random stream of `entropy`.

    At least MIN_VISIBLE of the thing is to be seen.
    """
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    shape = (side, side)
    picture, _ = draw_ground(rng, shape)
    light = turn(rng.uniform(0, 2 * np.pi)) @ (1, 0)
    hidden = rng.random() < HIDDEN
    while True:
        # Twice the size on half the side: as many pixels as in the other pictures.
        surface, cover, shadow, area = draw_thing(rng, name, shape, light, scale=2.0)
        before = draw_border(rng, shape) if hidden else np.zeros(shape)
        if ((cover > 0.5) & (before < 0.5)).sum() >= MIN_VISIBLE * area:
            break
    picture *= 1 - 0.5 * shadow[..., None]
    picture += cover[..., None] * (surface - picture)
    if hidden:
        stuff = draw_stuff(rng, STUFF[rng.integers(len(STUFF))], shape)
        picture += before[..., None] * (stuff - picture)
    return expose(rng, picture, light)


def write_portraits(out: Path, split: int, count: int, side: int, seed: int) -> str:
    """Draw and write one split, 0 (train) or 1 (val), in ImageNet layout; say what it holds.

    The classes take turns; no two files of a split share a name.
    """
    folder = out / 'imagenet' / ('train', 'val')[split]
    for name in THINGS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        name = THINGS[index % len(THINGS)]
        # Streams of their own: the other pictures have those of splits 0 and 1.
        portrait = draw_portrait((seed, 2 + split, index), name, side)
        png = cv2.imencode('.png', portrait)[1]
        (folder / name / f'{index:06d}.png').write_bytes(png)
    return f'{count} portraits'


def write_split(out: Path, split: int, count: int, size: tuple, seed: int) -> str:
    """Draw and write one split, 0 (train) or 1 (val), in both layouts; say what it holds."""
    name, ade_name = (('train', 'training'), ('val', 'validation'))[split]
    coco = out / 'coco' / name
    photos, maps = (out / 'ade' / kind / ade_name for kind in ('images', 'annotations'))
    index_file = out / f'coco/annotations/{name}.json'
    for folder in (coco, photos, maps, index_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        jpeg, labels, things = draw_picture((seed, split, index), size)
        for folder in (coco, photos):
            (folder / f'{index:06d}.jpg').write_bytes(jpeg)
        (maps / f'{index:06d}.png').write_bytes(cv2.imencode('.png', labels)[1])
        w, h = size
        images.append(dict(id=index, file_name=f'{index:06d}.jpg', width=w, height=h, license=1))
        for label, mask in things:
            rle = mask_api.encode(np.asfortranarray(mask, np.uint8))
            box, area = mask_api.toBbox(rle).tolist(), int(mask_api.area(rle))
            rle['counts'] = rle['counts'].decode()
            about = dict(id=len(annotations) + 1, image_id=index, category_id=label, iscrowd=0)
            annotations.append(about | dict(bbox=box, area=area, segmentation=rle))
    dataset = dict(
        info=dict(description='mmca mini', version=str(VERSION)),
        licenses=[dict(id=1, name='drawn by tools/make_mini.py', url='')],
        categories=[dict(id=i, name=n, supercategory='thing') for i, n in enumerate(THINGS, 1)],
        images=images,
        annotations=annotations,
    )
    index_file.write_text(json.dumps(dataset))
    found = Counter(annotation['category_id'] for annotation in annotations)
    counts = ', '.join(f'{n} {found[i]}' for i, n in enumerate(THINGS, 1))
    return f'{name} {count} pictures ({counts})'


def make_mini(
    out: str | Path,
    train: int = 720,
    val: int = 48,
    size: tuple = (160, 128),
    seed: int = 0,
    force: bool = False,
) -> str:
    """Draw the data set, unless the folder holds this very one already.

    Args:
        out: The folder to fill.
        train: Number of training pictures; in ImageNet layout PORTRAITS times as many.
        val: Number of validation pictures, likewise.
        size: Their width and height, multiples of 32.
        seed: Seed of everything random.
        force: Replace a data set that was drawn before.

    Returns:
        One line that says what was written, and where.

    Raises:
        InputError: For a bad count, size or seed, or a folder that holds something else.
    """
    for name, number, least in (('train', train, 1), ('val', val, 1), ('seed', seed, 0)):
        if number < least:
            raise InputError(f'{name} must be {least} or more, got {number}')
    if len(size) != 2 or any(side % 32 or not 64 <= side <= 4096 for side in size):
        got = ' x '.join(map(str, size))
        raise InputError(f'size must be W and H, multiples of 32 from 64 to 4096, got {got}')
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f'{out} is not a folder: choose another --out')
    stamp, aside = out / 'mini.json', out / '.unfinished'
    content = json.dumps(
        dict(version=VERSION, layouts=LAYOUTS, train=train, val=val, size=tuple(size), seed=seed)
    )
    if not force and stamp.is_file() and stamp.read_text() == content:
        return f'{out} holds this data set already: nothing to draw'
    if out.is_dir() and any(path != aside for path in out.iterdir()):
        if not stamp.is_file():  # not drawn here: it could be the real COCO
            raise InputError(f'{out} holds something else: choose another --out')
        if not force:
            raise InputError(f'{out} holds another drawn data set: --force replaces it')

    # Drawn aside and moved at the end: an interrupted run leaves nothing that looks whole.
    shutil.rmtree(aside, ignore_errors=True)
    parts = []
    for split, count in enumerate((train, val)):
        pictures = write_split(aside, split, count, size, seed)
        portraits = write_portraits(aside, split, PORTRAITS * count, min(size) // 2, seed)
        parts.append(f'{pictures}, {portraits}')
    stamp.unlink(missing_ok=True)
    for layout in LAYOUTS:
        shutil.rmtree(out / layout, ignore_errors=True)
        (aside / layout).rename(out / layout)
    aside.rmdir()
    stamp.write_text(content)
    return f'mini data set in {out}: ' + '; '.join(parts)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description='Draw the mini data set from a seed.')
    parser.add_argument(
        '--out',
        default=str(Path(os.environ.get('MMCA_DATA_ROOT', 'data'), 'mini')),
        help='folder to fill; default mini in data, or in MMCA_DATA_ROOT',
    )
    parser.add_argument('--train', type=int, default=720, help='number of training pictures')
    parser.add_argument('--val', type=int, default=48, help='number of validation pictures')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(160, 128), metavar=('W', 'H'), help='in pixels'
    )
    parser.add_argument('--seed', type=int, default=0, help='of everything random')
    parser.add_argument('--force', action='store_true', help='replace a data set drawn before')
    try:
        print(make_mini(**vars(parser.parse_args(argv))))
    except (InputError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
