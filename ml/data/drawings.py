"""Drawings of animals: what the sample photos show.

An animal is a table of colours and proportions; its kind says how it is built. It is drawn facing right.
"""

from dataclasses import dataclass, replace

import numpy as np

from ml.data.pen import Colour, Pen, Skin, tint

WHITE, BLACK, PINK, AMBER = (246, 243, 236), (32, 27, 26), (196, 140, 130), (228, 170, 50)
SIDES = (-1, 1)
FACE, REACH = -0.25j, 1.7
"""Where a head that looks at you has its middle, and how far it reaches from there; in head radii."""


@dataclass(frozen=True)
class Kind:
    """How an animal is built. A head's measures are in head radii."""

    face: tuple[float, ...]  # half-widths from crown to chin, seen from the front; (): side view only
    snout: tuple[float, float]  # length and half-width at the nose, seen from the side
    ears: str  # pointed | small | round | fan
    tail: str  # brush | thin | short | hair | none


CAT = Kind((0.72, 1.0, 1.04, 0.84, 0.5), (0.95, 0.42), "round", "thin")
DOG = Kind((0.72, 1.04, 1.12, 0.5, 0.22), (1.7, 0.18), "pointed", "brush")
BEAR = Kind((0.75, 1.02, 1.0, 0.74, 0.5), (1.2, 0.36), "round", "none")
HORSE = Kind((), (2.1, 0.42), "small", "hair")
RHINO = Kind((), (1.7, 0.5), "small", "short")
ELEPHANT = Kind((0.7, 0.9, 0.8, 0.55, 0.36), (0.5, 0.4), "fan", "short")


@dataclass(frozen=True)
class Animal:
    """Colours and proportions of an animal whose body is 1 long from hip to shoulder."""

    kind: Kind
    coats: tuple[Colour, ...]  # an individual has one of them
    light: Colour  # belly, cheeks and muzzle
    dark: Colour  # tips of the ears, marks, mane, hoofs and end of the tail
    girth: float  # half the height of the body
    leg: tuple[float, float]  # length and half-width
    head: tuple[float, float, float]  # place, seen from the shoulder, and radius
    marks: str = ""  # stripes | bands | spots
    socks: bool = False  # dark ones; the end of the tail is light
    mane: bool = False  # a lion's

    @property
    def coat(self) -> Colour:
        return self.coats[0]


ANIMALS = {
    "tiger": Animal(CAT, ((232, 132, 40), (222, 146, 66)), WHITE, BLACK,
                    0.27, (0.42, 0.1), (0.3, -0.2, 0.29), "stripes"),
    "fox": Animal(DOG, ((224, 104, 34), (206, 92, 40)), WHITE, (48, 36, 32),
                  0.2, (0.44, 0.055), (0.26, -0.26, 0.24), socks=True),
    "elephant": Animal(ELEPHANT, ((136, 136, 144), (122, 116, 114), (154, 156, 166)), (172, 166, 166),
                       (74, 70, 74), 0.4, (0.5, 0.14), (0.36, -0.22, 0.34)),
    "lion": Animal(CAT, ((208, 162, 92), (222, 150, 72)), (238, 220, 186), (122, 68, 30),
                   0.27, (0.45, 0.095), (0.3, -0.26, 0.27), mane=True),
    "leopard": Animal(CAT, ((226, 174, 88), (230, 190, 120)), WHITE, BLACK,
                      0.23, (0.42, 0.08), (0.3, -0.18, 0.24), "spots"),
    "wolf": Animal(DOG, ((128, 130, 138), (158, 150, 140), (92, 92, 100), (166, 148, 126)), (224, 222, 218),
                   (66, 66, 72), 0.23, (0.52, 0.07), (0.28, -0.28, 0.23)),
    "bear": Animal(BEAR, ((112, 74, 46), (64, 52, 48), (158, 100, 54), (228, 224, 212)), (196, 160, 120),
                   (40, 32, 30), 0.35, (0.36, 0.13), (0.32, -0.12, 0.28)),
    "horse": Animal(HORSE, ((150, 84, 44), (196, 112, 56), (96, 66, 48), (150, 148, 150)), (214, 190, 168),
                    (46, 34, 30), 0.25, (0.66, 0.065), (0.46, -0.56, 0.19)),
    "zebra": Animal(HORSE, ((240, 238, 232),), (86, 80, 80), BLACK,
                    0.26, (0.55, 0.065), (0.42, -0.48, 0.19), "bands"),
    "rhino": Animal(RHINO, ((138, 130, 126), (122, 122, 130)), (182, 172, 160), (72, 66, 64),
                    0.36, (0.32, 0.12), (0.4, -0.02, 0.27)),
}  # fmt: skip


def individual(name: str, rng: np.random.Generator) -> Animal:
    """One animal of the name: its coat chosen, its proportions up to an eighth off the usual ones."""
    animal = ANIMALS[name]
    coat = animal.coats[rng.integers(len(animal.coats))]
    girth, length, width, head = rng.uniform(0.88, 1.12, 4)
    x, y, radius = animal.head
    return replace(
        animal,
        coats=(tint(coat, rng.uniform(0.88, 1.1)),),
        girth=animal.girth * girth,
        leg=(animal.leg[0] * length, animal.leg[1] * width),
        head=(x, y + rng.uniform(-0.06, 0.1), radius * head),
    )


def extent(animal: Animal) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the whole figure, the hip at 0."""
    x, y, radius = animal.head
    return -0.85, min(-animal.girth, y - 1.7 * radius), 1 + x + 2.3 * radius, animal.girth + animal.leg[0]


def draw_figure(pen: Pen, animal: Animal, rng: np.random.Generator) -> Pen:
    """The whole animal walking right, the hip at 0; its head looks ahead or at you. Returns the pen of the head."""
    girth, leg, kind, (x, y, radius) = animal.girth, animal.leg[0], animal.kind, animal.head
    stride = rng.uniform(-0.24, 0.24, 4) * (leg + 0.3)
    with pen.layer() as far:
        _tail(far, animal, rng)
        for hip, swing in zip((0.13, 0.91), stride[:2], strict=True):
            _leg(far, replace(animal, coats=(tint(animal.coat, 0.72),)), hip + 0.65j * girth, swing, rng)
    with pen.layer() as near:
        if kind is HORSE:
            crest = (0.95 + x * 0.4, y * 0.75 - 0.08, 0.09), (0.98 + x, y - radius, 0.06)
            near.tube(animal.dark, (0.75, -girth * 0.95, 0.07), *crest)
        trunk = (0.3, 0, girth), (0.65, 0.02, girth * 0.96), (1, 0, girth * 0.92)
        skin = near.tube(animal.coat, (0, 0, girth * 0.82), *trunk)
        if kind is not HORSE:
            belly = np.linspace(0.12, 0.88, 12)
            rise = 0.97 - 0.35 * np.sin(4.1 * (belly - 0.12))
            near.blob(np.append(skin(belly, 0.97), skin(belly, rise)[::-1]), animal.light)
        _mark(near, skin, animal, 1.6, rng)
        nape = (1 + x * 0.55, y * 0.6, (girth + radius) * 0.45), (1 + x, y, radius * 0.75)
        neck = near.tube(animal.coat, (0.95, -girth * 0.12, girth * 0.8), *nape)
        _mark(near, neck, animal, 0.7, rng)
        for hip, swing in zip((0.03, 1.02), stride[2:], strict=True):
            _leg(near, animal, hip + 0.7j * girth, swing, rng)
    nod = rng.uniform(-0.15, 0.15)
    if not kind.face or rng.random() < 0.5:
        return _profile(pen.at(1 + x + 1j * y, radius, nod + 0.4 * (kind is HORSE)), animal, rng)
    return _face(pen.at(1 + x + 1j * y, radius * (0.85 if kind is ELEPHANT else 1.1), nod), animal, rng)


def draw_bust(pen: Pen, animal: Animal, rng: np.random.Generator) -> Pen:
    """Head and neck, the head at 0 with radius 1, from the side or from the front. Returns the pen of the head."""
    front = bool(animal.kind.face) and rng.random() < 0.6
    with pen.layer() as bust:
        if animal.kind is HORSE:
            bust.tube(animal.dark, (-0.4, -0.7, 0.35), (-1.3, 0.4, 0.6), (-2.4, 3, 0.9))
        chest = ((0, 1.8, 1.3), (0, 5, 3.2)) if front else ((-1, 1.8, 1.2), (-2, 5, 2.4))
        skin = bust.tube(tint(animal.coat, 0.92), (0, 0.2, 0.8), *chest)
        if animal.kind is DOG:
            along, (near, far) = np.linspace(0, 1, 9), (-0.45, 0.45) if front else (-1, -0.4)
            bust.blob(np.append(skin(along, near), skin(along, far)[::-1]), animal.light)
        _mark(bust, skin, animal, 1.4, rng, 0.16)
    return (_face if front else _profile)(pen.at(0, 1, rng.uniform(-0.15, 0.15)), animal, rng)


def _mark(pen: Pen, skin: Skin, animal: Animal, span: float, rng: np.random.Generator, size: float = 0.034) -> None:
    """The animal's marks on a skin about `span` times as long as wide; spots have the radius `size`."""
    if animal.marks == "spots":
        count = round(34 * span)
        for i in range(count):  # steps of the golden ratio keep them apart
            place = skin((i + 0.5) / count, 1.7 * (i * 0.618 % 1) - 0.85 + rng.uniform(-0.12, 0.12))
            pen.disc(place, size * rng.uniform(0.8, 1.2), animal.dark)
    elif animal.marks:
        bands = animal.marks == "bands"
        count = round((7 if bands else 5) * span)
        for i in range(count):
            # a band goes round; a stripe grows from the back, every third one from the belly, and tapers
            start, end = (-1, rng.uniform(0.2, 0.8)) if i % 3 < 2 else (1, rng.uniform(-0.3, 0.1))
            across = np.linspace(start, -start if bands else end, 8)
            thick = rng.uniform(0.2, 0.3) / count
            middle = (i + rng.uniform(0.3, 0.7)) / count + 0.4 * thick * np.sin(3 * across + i)
            taper = thick * np.linspace(1, 0.7 if bands else 0, 8)
            pen.blob(np.append(skin(middle - taper, across), skin(middle + taper, across)[::-1]), animal.dark)


def _tail(pen: Pen, animal: Animal, rng: np.random.Generator) -> None:
    lift, shape, coat = rng.uniform(-0.25, 0.2), animal.kind.tail, animal.coat
    if shape == "brush":
        pen = pen if animal.socks else pen.at(0, 0.8, -0.8)
        bush = (-0.28, 0.1 + lift / 2, 0.13), (-0.6, 0.16 + lift, 0.14), (-0.9, 0.1 + lift, 0.03)
        skin = pen.tube(coat, (0, 0, 0.06), *bush)
        rim, tip = np.linspace(-1, 1, 9), np.linspace(0.72, 1, 9)
        colour = animal.light if animal.socks else animal.dark
        seam = skin(0.72 + 0.05 * np.cos(9 * rim), rim)
        pen.blob(np.concatenate([seam, skin(tip, 1), skin(tip[::-1], -1)]), colour)
    elif shape == "hair":
        hang = (-0.16, 0.15, 0.08), (-0.2 + lift / 3, 0.5, 0.07), (-0.24 + lift, 0.7, 0.01)
        pen.tube(animal.dark, (0, 0, 0.05), *hang)
    elif shape != "none":
        reach = 0.7 if shape == "short" else 1
        swing = (-0.45 * reach, 0.3 * reach + lift, 0.04), (-0.75 * reach, 0.25 + lift, 0.035)
        skin = pen.tube(coat, (0, 0, 0.05), (-0.25 * reach, 0.15, 0.045), *swing)
        _mark(pen, skin, replace(animal, marks="bands" if animal.marks else ""), 1, rng)
        pen.disc(skin(1, 0), 0.045 if animal.marks else 0.075, animal.dark)


def _leg(pen: Pen, animal: Animal, hip: complex, swing: float, rng: np.random.Generator) -> None:
    width, down = animal.leg[1], animal.girth * 0.3 + animal.leg[0]
    shin = (swing * 0.4, down * 0.5, width * 1.1), (swing, down - width * 0.8, width * 0.85)
    pen = pen.at(hip)
    skin = pen.tube(animal.coat, (0, 0, width * 1.5), *shin)
    foot = animal.dark if animal.socks or animal.kind is HORSE else animal.coat
    pen.disc(skin(1, 0) + 0.35 * width, width * 1.3, foot, width * 0.8)
    if animal.socks:
        sock = np.linspace(0.62, 1, 6)
        pen.blob(np.append(skin(sock, -1), skin(sock, 1)[::-1]), animal.dark)
    _mark(pen, lambda along, across: skin(0.3 + 0.65 * along, across), animal, 0.6, rng, 0.022)


def _face(pen: Pen, animal: Animal, rng: np.random.Generator) -> Pen:
    """A head of radius 1 that looks at you. Returns the pen whose origin is the middle of it, ears and chin."""
    kind = animal.kind
    if animal.mane:
        _mane(pen, animal, 0.1j)
    with pen.layer() as ears:
        for side in SIDES:
            _ear(ears, animal, side)
    with pen.layer() as face:
        rows = np.linspace(-0.62, 0.95 if kind is DOG else 0.68, len(kind.face))
        skin = face.tube(animal.coat, *((0, y, half) for y, half in zip(rows, kind.face, strict=True)))
        if kind is DOG:
            for side in SIDES:
                face.blob(skin(np.linspace(0.5, 1, 9), side * np.linspace(1, 0.85, 9)), animal.light)
                cheek = side * np.array([1.1, 0.35, 0, 0, 0.6]) + 1j * np.array([0.25, 0.42, 0.75, 1.1, 0.6])
                face.blob(cheek, animal.light)
        elif kind is not ELEPHANT:
            face.disc(0.73j, 0.6, animal.light, 0.45)
        if animal.marks == "stripes":
            for y, reach in ((-0.85, 0.5), (-0.62, 0.4), (-0.4, 0.22)):
                face.blob(1j * y + np.array([-reach, -0.08j, reach, 0.1j]), animal.dark)
            for side, along in ((side, along) for side in SIDES for along in (0.35, 0.52, 0.7)):
                wedge = skin(along + np.array([-0.06, 0.06, 0.03]), side * np.array([1, 1, 0.55]))
                face.blob(wedge, animal.dark)
        else:
            _mark(face, lambda along, across: skin(0.4 * along, across), animal, 0.8, rng, 0.06)
        for side in SIDES:
            _eye(face, animal, side * 0.45)
            if kind is ELEPHANT:
                face.tube(WHITE, (side * 0.5, 0.7, 0.13), (side * 0.62, 1.2, 0.11), (side * 0.5, 1.65, 0.03))
            else:
                nose = face.at(0.78j if kind is DOG else 0.42j)
                nose.blob(np.array([-0.24, 0.24, 0.26j]), BLACK)
                nose.tube(BLACK, (0, 0.24, 0.03), (side * 0.1, 0.4, 0.03), (side * 0.3, 0.36, 0.02))
    if kind is ELEPHANT:
        sway = rng.uniform(-0.7, 0.7)
        _trunk(pen, animal, (0, 0.35, 0.42), (0, 1.1, 0.34), (sway * 0.4, 1.8, 0.27), (sway, 2.3, 0.2))
    return pen.at(FACE)


def _profile(pen: Pen, animal: Animal, rng: np.random.Generator) -> Pen:
    """A head with a skull of radius 1 that looks right. Returns the pen whose origin is the middle of it."""
    kind, (length, tip) = animal.kind, animal.kind.snout
    if animal.mane:
        _mane(pen, animal, -0.55 + 0.25j)
    with pen.layer() as face:
        skin = face.tube(animal.coat, (-0.1, 0, 0.98), (0.55, 0.22, 0.4 + tip), (length, 0.55, tip))
        if kind in (HORSE, BEAR):
            face.disc(length + 0.55j, tip, tint(animal.coat, 0.75) if kind is HORSE else animal.light)
            face.disc(length + 0.55j + (0.12 - 0.15j if kind is HORSE else 0.3 - 0.1j), 0.1, BLACK)
        elif kind not in (ELEPHANT, RHINO):
            face.tube(animal.light, (0.2, 0.72, 0.22), (length, 0.55 + tip * 0.45, tip * 0.6))
            face.disc(length + tip * 0.75 + 1j * (0.55 - tip * 0.4), 0.14, BLACK)
        if animal.marks == "stripes":
            for angle in (-1.3, -0.9, 1.7, 2.1, 2.5, 2.9):
                wedge = np.array([1, 1, 0.5]) * np.exp(1j * (angle + np.array([-0.1, 0.1, 0])))
                face.blob(wedge - 0.1, animal.dark)
        else:
            _mark(face, lambda along, across: skin(0.6 * along, across), animal, 0.6, rng, 0.08)
        if kind is RHINO:
            horn = face.at(length)
            horn.tube(animal.light, (-0.1, 0.2, 0.24), (0.25, -0.35, 0.15), (0.3, -1, 0.02))
            horn.tube(animal.light, (-0.68, 0.05, 0.16), (-0.65, -0.45, 0.02))
    if kind is ELEPHANT:
        down = ((1.35, 2.2, 0.25), (1.8, 2.9, 0.17)), ((1.9, 1.2, 0.27), (2.6, 0.2, 0.18))
        _trunk(pen, animal, (0.3, 0.1, 0.7), (0.95, 0.8, 0.42), *down[rng.random() < 0.35])
        pen.tube(WHITE, (0.6, 0.85, 0.13), (1.0, 1.3, 0.12), (1.6, 1.3, 0.03))
    with pen.layer() as near:
        _eye(near, animal, 0.45 - 0.28j)
        if kind is ELEPHANT:
            near.disc(-0.95 + 0.25j, 0.85, tint(animal.coat, 0.88), 1.2, 0.25)
            near.disc(-1 + 0.25j, 0.62, tint(animal.coat, 0.76), 0.9, 0.25)
        else:
            _ear(near.at(-0.75), animal, 1)
    return pen.at(length / 4 + FACE)


def _eye(pen: Pen, animal: Animal, place: complex) -> None:
    for radius, colour in ((0.19, BLACK), (0.165, AMBER if animal.kind is CAT else BLACK), (0.1, BLACK)):
        pen.disc(place, radius, colour)
    pen.disc(place + 0.04 - 0.05j, 0.05, WHITE)


def _ear(pen: Pen, animal: Animal, side: int) -> None:
    """The left (-1) or right (1) ear of a head seen from the front."""
    coat, light, dark, shape = animal.coat, animal.light, animal.dark, animal.kind.ears
    if shape == "fan":
        for radius, colour in ((0.95, tint(coat, 0.88)), (0.72, PINK)):
            pen.disc(side * 1.35 - 0.1j, radius, colour, radius * 1.25, side * 0.25)
    elif shape == "round":
        for radius, colour in ((0.4, dark), (0.33, coat), (0.2, light)):
            pen.disc(side * 0.74 - 0.72j, radius, colour)
    else:
        size = 0.65 if shape == "small" else 1
        root, tip = side * 0.58 - 0.4j, size * (side * 0.28 - 1.25j)
        for start, end, half, colour in ((0, 1, 0.44, coat), (0, 0.8, 0.26, light), (0.68, 1, 0.15, dark)):
            corners = np.array([start * tip - half * size, start * tip + half * size, end * tip])
            pen.blob(root + corners, colour)


def _mane(pen: Pen, animal: Animal, place: complex) -> None:
    with pen.layer() as mane:
        for ring, tone in ((1.7, 0.85), (1.42, 1.15)):
            rays = np.exp(1j * np.linspace(0, 2 * np.pi, 52)) * (ring + np.tile((0.1, -0.1), 26))
            mane.blob(place + rays, tint(animal.dark, tone))


def _trunk(pen: Pen, animal: Animal, *knots: tuple[float, float, float]) -> None:
    with pen.layer() as trunk:
        skin = trunk.tube(animal.coat, *knots)
        for along in np.linspace(0.4, 0.95, 7):
            wrinkle = skin(along, np.array([-0.8, 0, 0.8]))
            trunk.tube(tint(animal.coat, 0.8), *((z.real, z.imag, 0.02) for z in wrinkle))
