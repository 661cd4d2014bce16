"""Near-duplicates: the same picture compressed, resized, cropped, mirrored or lit differently, or the next of a burst.

A photo is compared by its look, 32x32 grey levels. Local brightness and contrast are taken out first: those of a
flash, a sky or a vignette are common to photos that have nothing else in common. Pairs that agree roughly get a second
look: the two must agree at the same shift and zoom, as a whole and in most of 16 tiles, so that a common banner or a
common horizon is not enough.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dct, irfft2, rfft2
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float32]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Agreement:
    """How much two photos must agree."""

    whole: float
    """Correlation of the middles."""
    tiles: float
    """Share of the tiles that correlate by `TILE_CORRELATION`; tiles that are blank in both don't count."""
    rough: float
    """Correlation of the lowest frequencies."""
    colours: float
    """Correlation of the differences between the colour channels."""


SURE = Agreement(whole=0.75, tiles=0.75, rough=0.7, colours=-1)
LIKELY = Agreement(whole=0.6, tiles=0.5, rough=0.8, colours=0.55)
"""Either is enough. They were set on photos: with `SURE` alone, frames in which animals have moved are not tied."""
MIRRORED = Agreement(whole=0.85, tiles=0.75, rough=0.85, colours=-1)
"""A mirrored photo is a copy, never the next frame: less would tie animals that look the other way."""
TILE_CORRELATION = 0.6
SAME_PICTURE = 0.7
"""From this `likeness` on, near-duplicates are the same picture, and not two frames of one scene."""

SIDE = 32
_SHIFT = 4  # pixels of 32: views that differ by up to an eighth of the width
_INNER = SIDE - 2 * _SHIFT
_TILES = 4  # each way
_ZOOMS = (1, 1 / 1.09, 1.09)  # a tenth cut off, within the 5 % that the comparison itself bears
_BLANK = 0.1  # standard deviation; it is about 1 where there is something to see
_BANNER = 3  # rows at the top and the bottom that the first test ignores
_FREQUENCIES = 6  # each way
_ROWS, _COLUMNS = 256, 2048  # a tile of the first test stays in the processor's cache
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What photos are compared by: `looks` uint8 [N, 1024] and `thumbnails` uint8 [N, 192] (see `photos.Facts`)."""

    looks: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Fingerprints":
        """Return those of a table of photos with the columns `look` and `thumbnail`."""
        looks, thumbnails = (np.frombuffer(b"".join(rows[name]), np.uint8) for name in ("look", "thumbnail"))
        return cls(looks.reshape(len(rows), SIDE**2), thumbnails.reshape(len(rows), 192))

    def __getitem__(self, places: Places) -> "Fingerprints":
        return Fingerprints(self.looks[places], self.thumbnails[places])


def near_duplicate_groups(
    sha256: Sequence[str], fingerprints: Fingerprints, known: Mapping[str, str] | None = None
) -> list[str]:
    """Return each photo's group: the smallest hash (16 digits) among the photos that it is connected with.

    Neither the order of the photos nor what was known changes the outcome. Takes about 4 KB of memory per photo, and
    time with the square of their number.

    Args:
        sha256: N hex digests, each once.
        fingerprints: of the same N photos.
        known: groups found earlier, by digest. If all of these photos are still here, only the others are compared.
    """
    usable = known if known and known.keys() <= set(sha256) else {}
    order = sorted(range(len(sha256)), key=lambda i: (sha256[i] not in usable, sha256[i]))
    names, sorted_ = [sha256[i] for i in order], fingerprints[np.array(order, np.intp)]
    leaders: dict[str, int] = {}
    part = np.array([leaders.setdefault(usable.get(name, name), place) for place, name in enumerate(names)], np.intp)
    photos = _Photos.of(sorted_)
    for others, needs in ((photos, (SURE, LIKELY)), (photos.mirrored(), (MIRRORED,))):
        least = min(need.rough for need in needs)
        for pairs in _in_chunks(_candidates(photos.rough, others.rough, least, len(usable))):
            first, second = pairs[:, part[pairs[0]] != part[pairs[1]]]  # pairs within a part tie nothing more
            alike = photos.agree(others, first, second, needs)
            part = _joined(part, first[alike], second[alike])
    smallest: dict[int, str] = {}
    for name, place in sorted(zip(names, part.tolist(), strict=True)):
        smallest.setdefault(place, name[:16])
    group = dict(zip(names, (smallest[place] for place in part.tolist()), strict=True))
    return [group[name] for name in sha256]


def likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
    """Return how alike the looks of near-duplicates are, uint8 [P, 1024] each, where they are the least so.

    It is the correlation of the tile that agrees least, float32 [P], up to 1, at the shift that fits best, mirrored or
    not: an animal that only one of two frames shows is in one or two tiles.
    """
    mine, others = _structure(first), _structure(second)
    return np.maximum(_least(mine, others), _least(mine, others[..., ::-1]))


def _least(first: Floats, second: Floats) -> Floats:
    tiles, strength = _correlation(*map(_tiles, _fitted(first, second)))
    return np.asarray(np.where(strength >= _BLANK, tiles, 1).min(axis=1))


@dataclass(frozen=True, eq=False)
class _Photos:
    rough: Floats
    """[N, 35], of length 1 (shorter for a blank photo)."""
    structure: NDArray[np.float16]
    """[N, 32, 32]."""
    colours: Floats
    """[N, 128], of length 1 (shorter for a grey photo)."""

    @classmethod
    def of(cls, fingerprints: Fingerprints) -> "_Photos":
        structure = _structure(fingerprints.looks).astype(np.float16)
        return cls(_rough(fingerprints.looks), structure, _colours(fingerprints.thumbnails))

    def mirrored(self) -> "_Photos":
        """Return the same photos, left and right exchanged: waves of odd frequency to the right change their sign."""
        signs = np.tile(np.array([1, -1], np.float32), _FREQUENCIES**2 // 2)[1:]
        colours = self.colours.reshape(-1, 8, 8, 2)[:, :, ::-1].reshape(self.colours.shape)
        return _Photos(self.rough * signs, self.structure[..., ::-1], colours)

    def agree(self, others: "_Photos", first: Places, second: Places, needs: Sequence[Agreement]) -> NDArray[np.bool_]:
        """Return whether these and the `others` agree as one of the `needs` asks, bool [P], for P pairs of places.

        One of a pair may be a little nearer.
        """
        rough = _dots(self.rough[first], others.rough[second])
        colours = _dots(self.colours[first], others.colours[second])
        alike = np.zeros(len(first), bool)
        undecided = np.arange(len(first))
        for zoom in _ZOOMS:
            lens = _lens(zoom)
            mine = lens @ self.structure[first[undecided]].astype(np.float32) @ lens.T
            whole, tiles = _second_look(mine, others.structure[second[undecided]].astype(np.float32))
            for need in needs:
                alike[undecided] |= (
                    (whole >= need.whole)
                    & (tiles >= need.tiles)
                    & (rough[undecided] >= need.rough)
                    & (colours[undecided] >= need.colours)
                )
            hopeful = whole >= 0.4 if zoom == 1 else True  # no zoom makes an agreement of less
            undecided = undecided[~alike[undecided] & hopeful]
        return alike


def _structure(looks: NDArray[np.uint8], sigma: float = 2, smooth: float = 0.7) -> Floats:
    """Return looks [N, 1024] without their local brightness and contrast, smoothed: float32 [N, 32, 32]."""
    local, fine = (gaussian_filter1d(np.eye(SIDE, dtype=np.float32), width, axis=0) for width in (sigma, smooth))
    found = np.empty((len(looks), SIDE, SIDE), np.float32)
    for start in range(0, len(looks), _CHUNK):
        levels = looks[start : start + _CHUNK].reshape(-1, SIDE, SIDE).astype(np.float32)
        detail = levels - local @ levels @ local.T
        detail /= np.sqrt(local @ detail**2 @ local.T) + 1  # a grey level, so that noise in a blank part stays small
        found[start : start + _CHUNK] = fine @ detail @ fine.T
    return found


def _rough(looks: NDArray[np.uint8]) -> Floats:
    """Return what the first test correlates: the 35 lowest frequencies (discrete cosine transform)."""
    down, right = (
        dct(np.eye(side, dtype=np.float32), norm="ortho", axis=0)[:_FREQUENCIES] for side in (SIDE - 2 * _BANNER, SIDE)
    )
    waves = down @ _structure(looks, sigma=5, smooth=0.3)[:, _BANNER:-_BANNER] @ right.T
    return _unit(waves.reshape(len(looks), _FREQUENCIES**2)[:, 1:], 1e-3)


def _colours(thumbnails: NDArray[np.uint8]) -> Floats:
    channels = thumbnails.reshape(len(thumbnails), 64, 3).astype(np.float32)
    differences = channels[..., [0, 2]] - channels[..., [1]]
    differences -= differences.mean(axis=1, keepdims=True)
    values = differences.reshape(len(thumbnails), 128)
    return _unit(values, 2 * np.sqrt(values.shape[1]))  # two levels, so that the noise of a grey photo stays small


def _unit(vectors: Floats, least: float) -> Floats:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + least), np.float32)


def _dots(one: Floats, other: Floats) -> Floats:
    return np.einsum("ij,ij->i", one, other)


def _candidates(rough: Floats, others: Floats, least: float, n_known: int) -> Iterator[Places]:
    """Yield pairs that pass the first test, int [2, P], each once, the smaller place first; two known ones are none.

    `others` float32 [N, 35] are the same photos, mirrored or not; `least` is the correlation to pass.
    """
    found = np.empty((_ROWS, _COLUMNS), np.float32)
    for top in range(n_known, len(rough), _ROWS):
        rows = rough[top : top + _ROWS]
        for left in range(0, top + len(rows), _COLUMNS):
            columns = others[left : min(left + _COLUMNS, top + len(rows))]
            tile = np.matmul(rows, columns.T, out=found[: len(rows), : len(columns)])
            if tile.max() >= least:
                row, column = np.divmod(np.flatnonzero(tile >= least), len(columns))
                pairs = np.stack([left + column, top + row])
                yield pairs[:, pairs[0] < pairs[1]]


def _in_chunks(pairs: Iterator[Places]) -> Iterator[Places]:
    """Yield the same pairs, about `_CHUNK` at a time."""
    waiting: list[Places] = []
    for found in pairs:
        for start in range(0, found.shape[1], _CHUNK):
            waiting.append(found[:, start : start + _CHUNK])
            if sum(each.shape[1] for each in waiting) >= _CHUNK:
                yield np.concatenate(waiting, axis=1)
                waiting = []
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _lens(zoom: float) -> Floats:
    """Return the linear interpolation, float32 [32, 32], by which a row is seen through a lens."""
    middle = (SIDE - 1) / 2
    places = ((np.arange(SIDE) - middle) / zoom + middle).clip(0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(SIDE))).astype(np.float32)


def _second_look(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return the correlation of structures [P, 32, 32], and the share of the tiles that agree, float32 [P] each."""
    one, other = _fitted(first, second)
    whole, _ = _correlation(one.reshape(len(one), 1, _INNER**2), other.reshape(len(one), 1, _INNER**2))
    tiles, strength = _correlation(_tiles(one), _tiles(other))
    counted = strength >= _BLANK
    agreeing = ((tiles >= TILE_CORRELATION) & counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return whole[:, 0], agreeing


def _fitted(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return the middles of structures [P, 32, 32] and the parts of the others that fit them best, [P, 24, 24] each."""
    inner = slice(_SHIFT, -_SHIFT)
    middle = np.zeros(first.shape, np.float32)
    middle[:, inner, inner] = first[:, inner, inner]
    lags = np.arange(-_SHIFT, _SHIFT + 1)
    if len(first):
        scores = irfft2(rfft2(second) * rfft2(middle).conj(), s=(SIDE, SIDE))[:, lags[:, None], lags]
    else:
        scores = np.empty((0, len(lags), len(lags)))
    down, right = np.divmod(scores.reshape(len(first), len(lags) ** 2).argmax(axis=1), len(lags))
    windows = np.lib.stride_tricks.sliding_window_view(second, (_INNER, _INNER), axis=(1, 2))
    return middle[:, inner, inner], windows[np.arange(len(second)), down, right]


def _tiles(middles: Floats) -> Floats:
    """Cut [P, 24, 24] into tiles, [P, 16, 36]."""
    step = _INNER // _TILES
    cut = middles.reshape(-1, _TILES, step, _TILES, step).swapaxes(2, 3)
    return cut.reshape(len(middles), _TILES**2, step**2)


def _correlation(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Return the correlations along the last axis, and how far the stronger of the two varies (standard deviation)."""
    one = one - one.mean(axis=-1, keepdims=True)
    other = other - other.mean(axis=-1, keepdims=True)
    lengths = np.linalg.norm(one, axis=-1), np.linalg.norm(other, axis=-1)
    products = (one * other).sum(axis=-1) / (lengths[0] * lengths[1] + 1e-3)
    return products, np.maximum(*lengths) / np.sqrt(one.shape[-1])


def _joined(part: Places, first: Places, second: Places) -> Places:
    """Return the parts [N] after the pairs were tied: of what is connected, the smallest."""
    if not len(first):
        return part
    graph = coo_array((np.ones(len(first)), (part[first], part[second])), shape=(len(part), len(part)))
    _, component = connected_components(graph, directed=False)
    _, leader = np.unique(component, return_index=True)
    return np.asarray(leader[component[part]])
