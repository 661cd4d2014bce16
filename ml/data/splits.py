"""Near-duplicate groups, and the folds that never cut one and that known photos keep."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HOLDOUT = -1
HASH_DISTANCE = 14
THUMBNAIL_CORRELATION = 0.8
_BLOCK = 1024


def near_duplicate_groups(sha256: Sequence[str], dhash: np.ndarray, thumbnails: np.ndarray) -> list[str]:
    """Return each photo's group: the smallest hash (16 digits) among the photos that it hangs together with.

    Two photos are near-duplicates if their difference hashes are at most 14 bits apart *and* their colour thumbnails
    correlate by at least 0.8. Either test alone chains strangers, and so do thumbnails whose channels aren't centred
    one by one: all birds before a blue sky are then alike.

    Args:
        sha256: N hex digests.
        dhash: uint64 [N].
        thumbnails: uint8 [N, 192].
    """
    channels = thumbnails.reshape(len(thumbnails), 64, 3).astype(np.float32)
    centred = (channels - channels.mean(axis=1, keepdims=True)).reshape(thumbnails.shape)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True) + 1e-6
    pairs = [_close_pairs(start, dhash, centred) for start in range(0, len(dhash), _BLOCK)]
    first, second = np.concatenate(pairs or [np.empty((2, 0), int)], axis=1)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(dhash), len(dhash)))
    _, component = connected_components(graph, directed=False)
    names: dict[int, str] = {}
    for index in sorted(range(len(sha256)), key=lambda i: sha256[i]):
        names.setdefault(component[index], sha256[index][:16])
    return [names[part] for part in component]


def _close_pairs(start: int, dhash: np.ndarray, centred: np.ndarray) -> np.ndarray:
    block = slice(start, start + _BLOCK)
    distance = np.bitwise_count(dhash[block, None] ^ dhash[None, start:])
    first, second = np.nonzero(distance <= HASH_DISTANCE) + np.array([[start], [start]])
    alike = np.einsum("ij,ij->i", centred[first], centred[second]) >= THUMBNAIL_CORRELATION
    return np.stack([first[alike], second[alike]])


def assign_folds(
    groups: Sequence[str],
    classes: Sequence[str],
    known: Sequence[int | None],
    held_out: Sequence[bool],
    n_folds: int,
) -> list[int]:
    """Return each photo's fold, 0 to `n_folds` - 1, or -1 for a group that touches the hold-out.

    A group is never cut. A group with known photos stays in the fold where most of them are (so if a new photo ties two
    groups together, the smaller one moves); a new one goes, the largest first, to the fold that lacks its class most.
    The outcome depends on neither order nor names of files.

    Args:
        groups: N group names.
        classes: N class names.
        known: the fold that each photo had before, or `None`.
        held_out: whether each photo must never train.
        n_folds: at least 2.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    fold_of: dict[str, int] = {}
    counts: Mapping[str, Counter[int]] = defaultdict(Counter)
    newcomers = []
    for group, indices in members.items():
        before = Counter(fold for i in indices if (fold := known[i]) is not None and 0 <= fold < n_folds)
        if any(held_out[i] for i in indices):
            fold_of[group] = HOLDOUT
        elif before:
            fold_of[group] = min(before, key=lambda fold: (-before[fold], fold))
            for i in indices:
                counts[classes[i]][fold_of[group]] += 1
        else:
            newcomers.append(group)
    totals: Counter[int] = Counter()
    for per_fold in counts.values():
        totals.update(per_fold)
    for group in sorted(newcomers, key=lambda name: (-len(members[name]), name)):
        own = Counter(classes[i] for i in members[group])
        fold_of[group] = min(
            range(n_folds), key=lambda fold: (sum(counts[c][fold] * n for c, n in own.items()), totals[fold], fold)
        )
        for name, n in own.items():
            counts[name][fold_of[group]] += n
        totals[fold_of[group]] += len(members[group])
    return [fold_of[group] for group in groups]
