"""Near-duplicates: the same picture compressed, resized, cropped or lit differently, or the next frame of a burst.

A photo is compared by its look, 32x32 grey levels. Local brightness and contrast are taken out first, as those of a
flash, of a sky or of a vignette are common to photos that have nothing else in common. Pairs that agree roughly are
looked at a second time: the two must agree at the same shift and zoom, as a whole and in most of 16 tiles, so that
a common banner or a common horizon is not enough.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, irfft2, rfft2
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE = 32
SIEVE_CORRELATION = 0.7
CORRELATION = 0.75
"""Of the whole second look."""
TILE_CORRELATION = 0.6
"""Of `MOST_TILES` of the 16 tiles, not counting those that are blank in both photos."""
MOST_TILES = 0.75
SAME_PICTURE = 0.95
"""From this likeness on, two photos are the same picture to the eye, and not merely the same scene."""

_SHIFT = 4  # pixels of 32: views that differ by up to an eighth of the width
_INNER = SIDE - 2 * _SHIFT
_TILES = 4
_ZOOMS = (1 / 1.09, 1.09)  # a tenth cut off, within the 5 % that the comparison itself bears
_BLANK = 0.2  # of a standard deviation of about 1 where there is something
_HOPELESS = 0.4  # no zoom makes an agreement of less
_BANNER = 3  # rows at the top and the bottom that the first test ignores
_FREQUENCIES = 6  # each way
_ROWS, _COLUMNS = 256, 2048  # a tile of the first test stays in the processor's cache
_CHUNK = 4096

Floats = NDArray[np.float32]
Places = NDArray[np.intp]


def near_duplicate_groups(
    sha256: Sequence[str], looks: NDArray[np.uint8], known: Mapping[str, str] | None = None
) -> list[str]:
    """Return each photo's group: the smallest hash (16 digits) among the photos that it is connected with.

    Neither the order of the photos nor what was known changes the outcome. Takes about 2.5 KB of memory per photo, and
    time with the square of their number.

    Args:
        sha256: N hex digests, each once.
        looks: uint8 [N, 1024], see `photos.Facts.look`.
        known: groups found earlier, by digest. If all of these photos are still here, only the others are compared.
    """
    usable = known if known and known.keys() <= set(sha256) else {}
    order = sorted(range(len(sha256)), key=lambda i: (sha256[i] not in usable, sha256[i]))
    names, looks = [sha256[i] for i in order], looks[order]
    leaders: dict[str, int] = {}
    part = np.array([leaders.setdefault(usable.get(name, name), place) for place, name in enumerate(names)], np.intp)
    structure = _structure(looks).astype(np.float16)
    for pairs in _in_chunks(_candidates(_sieve(looks), len(usable))):
        first, second = pairs[:, part[pairs[0]] != part[pairs[1]]]  # pairs within a part tie nothing more
        alike = _agree(structure[first], structure[second])
        part = _joined(part, first[alike], second[alike])
    smallest: dict[int, str] = {}
    for name, place in sorted(zip(names, part.tolist(), strict=True)):
        smallest.setdefault(place, name[:16])
    group = dict(zip(names, (smallest[place] for place in part.tolist()), strict=True))
    return [group[name] for name in sha256]


def likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
    """Return how alike two looks, uint8 [P, 1024] each, are: float32 [P], up to 1, at the shift that fits best."""
    return _second_look(_structure(first), _structure(second))[0]


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


def _sieve(looks: NDArray[np.uint8]) -> Floats:
    """Return what the first test correlates: the structure's 35 lowest frequencies, float32 [N, 35], of length 1
    (shorter for a blank photo).
    """
    down = dct(np.eye(SIDE - 2 * _BANNER, dtype=np.float32), norm="ortho", axis=0)[:_FREQUENCIES]
    right = dct(np.eye(SIDE, dtype=np.float32), norm="ortho", axis=0)[:_FREQUENCIES]
    waves = down @ _structure(looks, sigma=5, smooth=0.3)[:, _BANNER:-_BANNER] @ right.T
    waves = waves.reshape(len(looks), -1)[:, 1:]
    return waves / (np.linalg.norm(waves, axis=1, keepdims=True) + 1e-3)


def _candidates(sieve: Floats, n_known: int) -> Iterator[Places]:
    """Yield pairs that pass the first test, int [2, P], each once, the smaller place first; two known ones are none."""
    found = np.empty((_ROWS, _COLUMNS), np.float32)
    for top in range(n_known, len(sieve), _ROWS):
        rows = sieve[top : top + _ROWS]
        for left in range(0, top + len(rows), _COLUMNS):
            columns = sieve[left : min(left + _COLUMNS, top + len(rows))]
            tile = np.matmul(rows, columns.T, out=found[: len(rows), : len(columns)])
            if tile.max() >= SIEVE_CORRELATION:
                row, column = np.divmod(np.flatnonzero(tile >= SIEVE_CORRELATION), len(columns))
                pairs = np.stack([left + column, top + row])
                yield pairs[:, pairs[0] < pairs[1]]


def _in_chunks(pairs: Iterator[Places]) -> Iterator[Places]:
    """Yield the same pairs, about `_CHUNK` at a time."""
    waiting: list[Places] = []
    for found in pairs:
        waiting.append(found)
        if sum(each.shape[1] for each in waiting) >= _CHUNK:
            yield np.concatenate(waiting, axis=1)
            waiting = []
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _agree(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return whether structures [P, 32, 32] show the same scene, bool [P]; one may be a little nearer."""
    whole, tiles = _second_look(first, second)
    alike = (whole >= CORRELATION) & (tiles >= MOST_TILES)
    for zoom in _ZOOMS:
        undecided = np.flatnonzero(~alike & (whole >= _HOPELESS))
        lens = _lens(zoom)
        whole_zoomed, tiles_zoomed = _second_look(lens @ first[undecided].astype(np.float32) @ lens.T, second[undecided])
        alike[undecided] = (whole_zoomed >= CORRELATION) & (tiles_zoomed >= MOST_TILES)
    return alike


def _lens(zoom: float) -> Floats:
    """Return the linear interpolation, float32 [32, 32], by which a row is seen through a lens."""
    middle = (SIDE - 1) / 2
    places = ((np.arange(SIDE) - middle) / zoom + middle).clip(0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(SIDE))).astype(np.float32)


def _second_look(first: NDArray[np.floating], second: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Correlate structures [P, 32, 32], the middle of one with the part of the other that fits it best.

    Returns the correlation of the whole, and the share of the tiles that agree, float32 [P] each.
    """
    if not len(first):
        return np.empty(0, np.float32), np.empty(0, np.float32)
    inner = slice(_SHIFT, -_SHIFT)
    middle = np.zeros(first.shape, np.float32)
    middle[:, inner, inner] = first[:, inner, inner]
    spectrum = rfft2(second.astype(np.float32)) * rfft2(middle).conj()
    lags = np.arange(-_SHIFT, _SHIFT + 1)
    scores = irfft2(spectrum, s=(SIDE, SIDE))[:, lags[:, None], lags[None]].reshape(len(first), -1)
    down, right = np.divmod(scores.argmax(axis=1), len(lags))
    windows = np.lib.stride_tricks.sliding_window_view(second, (_INNER, _INNER), axis=(1, 2))
    part = windows[np.arange(len(second)), down, right].astype(np.float32)
    one, other = middle[:, inner, inner], part
    whole, _ = _correlation(one.reshape(len(one), 1, -1), other.reshape(len(one), 1, -1))
    tiles, strength = _correlation(_tiles(one), _tiles(other))
    counted = strength >= _BLANK
    return whole[:, 0], ((tiles >= TILE_CORRELATION) & counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)


def _tiles(middles: Floats) -> Floats:
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
    """Return the parts [N] after the pairs were tied: of what hangs together, the smallest."""
    if not len(first):
        return part
    graph = coo_array((np.ones(len(first)), (part[first], part[second])), shape=(len(part), len(part)))
    _, component = connected_components(graph, directed=False)
    _, leader = np.unique(component, return_index=True)
    return np.asarray(leader[component[part]])
