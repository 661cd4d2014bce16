"""Groups of photos that stand or fall together, and the folds that never cut one and that known photos keep."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HOLDOUT = -1


def joined_groups(sha256: Sequence[str], *ties: Sequence[str]) -> list[str]:
    """Return each photo's group: the smallest hash (16 digits) among the photos that it is connected with.

    Photos are tied that have the same name in one of the `ties`, of N names each; an empty name ties nothing.
    """
    names = [{name: n for n, name in enumerate(sorted(set(tie) - {""}))} for tie in ties]
    offsets = np.cumsum([len(sha256), *map(len, names)])
    edges = [
        (photo, offset + numbers[name])
        for tie, numbers, offset in zip(ties, names, offsets[:-1], strict=True)
        for photo, name in enumerate(tie)
        if name
    ]
    first, second = np.array(edges, np.intp).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges)), (first, second)), shape=(offsets[-1], offsets[-1]))
    _, component = connected_components(graph, directed=False)
    smallest: dict[int, str] = {}
    for digest, photo in sorted(zip(sha256, range(len(sha256)), strict=True)):
        smallest.setdefault(component[photo], digest[:16])
    return [smallest[component[photo]] for photo in range(len(sha256))]


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
