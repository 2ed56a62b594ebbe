"""Draw the synthetic images from random streams: things on stuff.

Things are the five shapes of `THINGS`, stuff the three textures of `STUFF`. Images are OpenCV's:
BGR, H x W x 3.
"""

import cv2
import numpy as np

# Hue (degrees) and saturation, then layers of noise: (strength, cell height, cell width in pixels).
STUFF_LOOK = {
    'grass': (80, 0.45, ((0.20, 7, 1.5), (0.14, 3, 2), (0.12, 28, 28))),
    'sand': (42, 0.32, ((0.13, 1.2, 1.2), (0.08, 4, 5), (0.10, 30, 40))),
    'water': (190, 0.42, ((0.17, 2.5, 14), (0.10, 2, 5), (0.12, 20, 45))),
}
# Usual hue and pattern, then contours: (corners, alternating radii); the second one is a hole.
THING_LOOK = {
    'disc': (10, 'blotches', ((48, 1),)),
    'square': (75, 'stripes', ((4, 1.15),)),
    'triangle': (150, 'speckles', ((3, 1.2),)),
    'star': (225, 'shading', ((10, 1.2, 0.55),)),
    'ring': (300, 'checks', ((48, 1.05), (48, 0.55))),
}
THINGS = tuple(THING_LOOK)
STUFF = tuple(STUFF_LOOK)
HUE_SCATTER = 25  # hues are 65 to 85 apart: color tells most things apart
OWN_PATTERN = 0.85  # probability that a thing has the pattern of its class
RADIUS = (0.08, 0.24)  # of the image's shorter side
MIN_VISIBLE = 0.3  # share of the area of a thing, including the part outside the image
HIDDEN = 0.5  # probability that stuff occludes the thing of a portrait


def noise(rng: np.random.Generator, shape: tuple, cell_h: float, cell_w: float) -> np.ndarray:
    """Smooth noise (H, W) with mean 0, deviation 1 and lattice cells of that size."""
    h, w = shape
    lattice = rng.standard_normal((max(round(h / cell_h), 3), max(round(w / cell_w), 3)))
    field = cv2.resize(lattice, (w, h), interpolation=cv2.INTER_CUBIC)
    return (field - field.mean()) / field.std()


def paint(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The BGR image (H, W, 3) in 0..1 of hue (degrees), saturation and value, each (H, W)."""
    hsv = np.stack([hue % 360, saturation.clip(0, 1), value.clip(0, 1)], axis=-1)
    return cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2BGR)


def draw_stuff(rng: np.random.Generator, name: str, shape: tuple) -> np.ndarray:
    """The image (H, W, 3) of one kind of stuff."""
    hue, saturation, layers = STUFF_LOOK[name]
    relief = sum(strength * noise(rng, shape, *cell) for strength, *cell in layers)
    return paint(
        hue + rng.normal(0, 18) + 14 * noise(rng, shape, 24, 24),
        saturation + rng.normal(0, 0.08) - 0.3 * relief,
        rng.uniform(0.4, 0.65) * (1 + relief),
    )


def draw_border(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """A wavy border across the image: 0 on one side, 1 on the other (H, W)."""
    h, w = shape
    y, x = np.mgrid[:h, :w]
    angle = rng.uniform(0, 2 * np.pi)
    side = (x - rng.uniform(0.25, 0.75) * w) * np.cos(angle)
    side += (y - rng.uniform(0.25, 0.75) * h) * np.sin(angle)
    side += 0.07 * min(h, w) * noise(rng, shape, h / 4, w / 4) + 0.6 * noise(rng, shape, 2, 2)
    return 1 / (1 + np.exp(-side.clip(-20, 20)))


def draw_ground(rng: np.random.Generator, shape: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Two kinds of stuff on the sides of a border: image (H, W, 3) and labels (H, W)."""
    share = draw_border(rng, shape)
    first, second = rng.permutation(len(STUFF))[:2]
    labels = 1 + len(THINGS) + np.where(share > 0.5, first, second).astype(np.uint8)
    labels[abs(share - 0.5) < 0.25] = 0
    share = share[..., None]
    image = share * draw_stuff(rng, STUFF[first], shape)
    return image + (1 - share) * draw_stuff(rng, STUFF[second], shape), labels


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
        pixels, including the part outside the image.
    """
    h, w = shape
    hue, pattern, polygons = THING_LOOK[name]
    radius = scale * min(shape) * np.exp(rng.uniform(*np.log(RADIUS)))
    center = rng.uniform(0, 1, 2) * (w, h)
    stretch = np.exp(rng.uniform(-0.13, 0.13))
    pose = radius * turn(rng.uniform(0, np.pi)) @ np.diag([stretch, 1 / stretch])
    pose = pose @ turn(rng.uniform(0, 2 * np.pi))
    contours = []
    for corners, *radii in polygons:
        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        unit = np.resize(radii, corners) * (np.cos(angle), np.sin(angle))
        contours.append((pose @ unit).T + center)
    area, *hole = (cv2.contourArea(c.astype(np.float32)) for c in contours)
    drop = light * radius * rng.uniform(0.15, 0.35)
    shadow = cv2.GaussianBlur(coverage([c - drop for c in contours], shape), (0, 0), 0.12 * radius)

    y, x = np.mgrid[:h, :w]
    away = np.stack([x + 0.5 - center[0], y + 0.5 - center[1]])
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


def expose(rng: np.random.Generator, image: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Light from one side, blur and grain: image (H, W, 3) in 0..1 -> the same, uint8."""
    h, w, _ = image.shape
    y, x = np.mgrid[:h, :w]
    ramp = (x / w - 0.5) * light[0] + (y / h - 0.5) * light[1]
    shade = 1 + rng.uniform(0, 0.7) * ramp + 0.08 * noise(rng, (h, w), 50, 50)
    image = cv2.GaussianBlur(image * shade[..., None], (0, 0), rng.uniform(0.35, 0.8))
    image += rng.normal(0, rng.uniform(0.01, 0.035), image.shape)
    return (255 * image.clip(0, 1)).round().astype(np.uint8)


def draw_image(entropy: tuple, size: tuple) -> tuple[np.ndarray, np.ndarray, list]:
    """Draw one image of (width, height) from the random stream of (seed, split, index).

    Returns:
        The bytes of the JPEG file, the label map (H, W), both uint8, and the things as pairs
        (label, visible mask (H, W)), farthest first.
    """
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    w, h = size
    image, labels = draw_ground(rng, (h, w))
    light = turn(rng.uniform(0, 2 * np.pi)) @ (1, 0)
    count = rng.integers(2, 7)
    things = []  # (label, visible mask, whole area)
    while len(things) < count:
        label = int(rng.integers(len(THINGS))) + 1
        surface, cover, shadow, area = draw_thing(rng, THINGS[label - 1], (h, w), light)
        mask = cover > 0.5
        after = [(n, seen & ~mask, whole) for n, seen, whole in things] + [(label, mask, area)]
        if any(seen.sum() < MIN_VISIBLE * whole for _, seen, whole in after):
            continue  # too little of a thing would be visible: draw another
        things = after
        image *= 1 - 0.5 * shadow[..., None]
        image += cover[..., None] * (surface - image)
        labels[mask] = label
    image = expose(rng, image, light)
    quality = int(rng.integers(70, 96))
    jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return jpeg, labels, [thing[:2] for thing in things]


def draw_portrait(entropy: tuple, name: str, side: int) -> np.ndarray:
    """Draw one image (side, side, 3), uint8, of one thing, from the random stream of `entropy`.

    At least MIN_VISIBLE of the thing is visible.
    """
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    shape = (side, side)
    image, _ = draw_ground(rng, shape)
    light = turn(rng.uniform(0, 2 * np.pi)) @ (1, 0)
    hidden = rng.random() < HIDDEN
    while True:
        # Twice the size on half the side: as many pixels as in the other layouts.
        surface, cover, shadow, area = draw_thing(rng, name, shape, light, scale=2.0)
        before = draw_border(rng, shape) if hidden else np.zeros(shape)
        if ((cover > 0.5) & (before < 0.5)).sum() >= MIN_VISIBLE * area:
            break
    image *= 1 - 0.5 * shadow[..., None]
    image += cover[..., None] * (surface - image)
    if hidden:
        stuff = draw_stuff(rng, STUFF[rng.integers(len(STUFF))], shape)
        image += before[..., None] * (stuff - image)
    return expose(rng, image, light)
