"""Scoring: what the champion and an independent judge make of generated pictures, beside real photos.

The real ones are of the fold that neither the generator nor the judge has seen, cut and made small in the same way. The
judge is another network than the one that the discriminator looks through, which flatters what it has trained.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from ml import figures
from ml.analysis import classification, generative
from ml.analysis.classification import THRESHOLD
from ml.data.crops import centre, cut, middle
from ml.models.head import fit_head
from ml.models.projected import BACKBONE as DISCRIMINATOR
from ml.results import StageResult
from ml.stages import crops, drawn
from ml.stages.crops import HELD_OUT, Crops
from ml.stages.gan_training import JUDGE, Judge
from ml.stages.job import Findings, GanJob, perform
from ml.tracking import RegisteredVersion, StageRun

STAGE = "score"
OTHERS, LEARNT = 200, 400
"""Photos of other animals that are judged, and that the judge learns from."""
SAVED = 10
PAIRS = 6

GENERATED, REAL, OTHER = "generated pictures", "held-out photos", "other animals"
Kinds = dict[str, np.ndarray]


def run(job: GanJob, trained: StageResult) -> StageResult:
    """Judge many pictures of the generator that `trained` left; save ten, and show the best and the worst."""
    champion = job.tracker.champion(job.classifier_name)
    choices = {
        "seed": job.params.seed,
        "generator": trained.run_id,
        "crops": crops.key(job),
        "pictures": job.params.pictures,
        "champion": champion.version if champion else None,
    }

    def work(stage: StageRun, _: Path) -> Findings:
        real = crops.of(job)
        shown = {
            GENERATED: drawn.some(job, drawn.generator(job, trained)),
            REAL: real.held_out,
            OTHER: _others(job, OTHERS, held_out=True)[0],
        }
        looks = {name: _looks(shown, real, name) for name in (JUDGE, DISCRIMINATOR)}
        said = {"judge": _said_by_judge(job, shown, real)}
        if champion:
            said["champion"] = _said_by_champion(job, champion, shown)
        metrics = _hit_rates(said) | _distances(looks[JUDGE])
        metrics |= {f"{name}_discriminator": value for name, value in _distances(looks[DISCRIMINATOR]).items()}
        stage.table("judged", _table(metrics, {kind: len(images) for kind, images in shown.items()}))
        probabilities = {name: by_kind[GENERATED] for name, by_kind in said.items()}
        _save(stage, shown[GENERATED][:SAVED], {name: values[:SAVED] for name, values in probabilities.items()})
        stage.figure("best_and_worst", _best_and_worst(job, shown[GENERATED], real, looks[JUDGE], probabilities))
        return Findings(_sentence(job, metrics, champion), metrics)

    return perform(job, STAGE, choices, work)


class _Looks(NamedTuple):
    """Features of one network, float32 [N, D]."""

    kinds: Kinds
    training: np.ndarray
    """Of the photos that the generator was trained on."""
    mirrored: np.ndarray
    """Of their mirror images, which it was trained on too."""


def _others(job: GanJob, n: int, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return photos of other animals as small as the pictures, uint8 [n, size, size, 3], and their classes [n].

    They are drawn evenly over the classes, from the held-out fold or from the others.
    """
    rows, classes = job.dataset.training, job.dataset.training["class"].to_numpy(str)
    places = np.flatnonzero((rows.label == 0) & ((rows.fold == HELD_OUT) == held_out))
    chosen = classification.draw_evenly(places, classes, n, np.random.default_rng(job.params.seed))
    photos = [job.dataset.pixels(index) for index in rows.index[chosen]]
    return np.stack([cut(photo, middle(*photo.shape[:2]), job.params.size) for photo in photos]), classes[chosen]


def _looks(shown: Kinds, real: Crops, network: str) -> _Looks:
    judge, trained_on = Judge(real.held_out, network), centre(real.training, real.held_out.shape[1])
    return _Looks(
        {kind: judge.features(images) for kind, images in shown.items()},
        judge.features(trained_on),
        judge.features(trained_on[:, :, ::-1]),
    )


def _said_by_judge(job: GanJob, shown: Kinds, real: Crops) -> Kinds:
    """Return the probabilities of a linear head on the judge's network.

    It has learnt from crops and photos of others of the pictures' size and of the other folds: one that has learnt from
    whole photos may take a small picture for no animal at all.
    """
    mine = centre(real.training, job.params.size)
    others, names = _others(job, LEARNT, held_out=False)
    classes = np.concatenate([np.full(len(mine), job.animal), names])
    seen = drawn.features(np.concatenate([mine, others, *shown.values()]), JUDGE)
    learnt, judged = seen[: len(classes)], seen[len(classes) :]
    head = fit_head(learnt, classes, classes == job.animal, np.arange(len(classes)))
    ends = np.cumsum([len(images) for images in shown.values()])[:-1]
    return dict(zip(shown, np.split(head.predict(judged), ends), strict=True))


def _said_by_champion(job: GanJob, champion: RegisteredVersion, shown: Kinds) -> Kinds:
    model, padding = job.tracker.load_model(champion), champion.padding
    height, width = model.input_shape[1:3]
    return {kind: drawn.said(model, images, height, width, padding)[:, 0] for kind, images in shown.items()}


def _hit_rates(said: dict[str, Kinds]) -> dict[str, float]:
    names = {GENERATED: "hit_rate", REAL: "hit_rate_real", OTHER: "hit_rate_others"}
    return {
        (name if who == "champion" else f"{name}_{who}"): float((by_kind[kind] >= THRESHOLD).mean())
        for who, by_kind in said.items()
        for kind, name in names.items()
    }


def _distances(looks: _Looks) -> dict[str, float]:
    generated, held_out = looks.kinds[GENERATED], looks.kinds[REAL]
    photos, both = np.concatenate([looks.training, held_out]), np.concatenate([looks.training, looks.mirrored])
    distances = {
        "kid": generative.kernel_distance(held_out, generated),
        "kid_reference": generative.kernel_distance(held_out, looks.training),
        "kid_others": generative.kernel_distance(held_out, looks.kinds[OTHER]),
    }
    # Both shares grow with the number of pictures, so there are as many as photos.
    among = generative.precision_recall(photos, generated[: len(photos)])
    nearest = [generative.nearest(rows, both).distances for rows in (generated, held_out)]
    by_chance, at_most = generative.copy_rate_by_chance(len(generated), len(held_out))
    return {
        f"{name}{end}": value
        for name, distance in distances.items()
        for end, value in zip(("", "_low", "_high"), distance, strict=True)
    } | {
        "precision": among.precision,
        "recall": among.recall,
        "diversity": generative.diversity(photos, generated),
        "copy_rate": generative.copy_rate(*nearest),
        "copy_rate_by_chance": by_chance,
        "copy_rate_by_chance_high": at_most,
        "nearer_than_new": generative.nearer_than_new(*nearest),
    }


def _save(stage: StageRun, pictures: np.ndarray, probabilities: Kinds) -> None:
    """Keep the first pictures, as they came, each a file, with their probabilities."""
    names = [f"picture_{number:02d}.png" for number in range(1, len(pictures) + 1)]
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in zip(names, pictures, strict=True):
            file = Path(folder, name)
            Image.fromarray(picture).save(file)
            stage.file(file, "pictures")
    stage.table("pictures", pd.DataFrame({"picture": names} | probabilities))
    captions = _captions(probabilities, range(len(pictures)))
    title = f"The first {len(pictures)} pictures, as they came, and the probability of the animal"
    stage.figure("ten_pictures", figures.contact_sheet(list(pictures), captions, title, columns=5))


def _best_and_worst(job: GanJob, pictures: np.ndarray, real: Crops, looks: _Looks, probabilities: Kinds) -> Figure:
    """Draw the pictures that the judge is surest and least sure of, each with the nearest photo of the training."""
    order = np.argsort(-probabilities["judge"], kind="stable")
    chosen = np.concatenate([order[:PAIRS], order[-PAIRS:]])
    trained = np.concatenate([looks.training, looks.mirrored])
    near = generative.nearest(looks.kinds[GENERATED][chosen], trained).indices
    trained_on = centre(real.training, pictures.shape[1])
    photos = np.concatenate([trained_on, trained_on[:, :, ::-1]])
    images = [image for pair in zip(pictures[chosen], photos[near], strict=True) for image in pair]
    captions = [text for said in _captions(probabilities, chosen) for text in (said, "nearest photo")]
    title = (
        f"The {PAIRS} pictures that the judge is surest are {job.animal}, then the {PAIRS} it is least sure of, "
        f"each left of the photo nearest to it among those trained on"
    )
    return figures.contact_sheet(images, captions, title)


def _captions(probabilities: Kinds, places: Iterable[int]) -> list[str]:
    return ["\n".join(f"{who} {values[place]:.2f}" for who, values in probabilities.items()) for place in places]


def _table(metrics: dict[str, float], counts: dict[str, int]) -> pd.DataFrame:
    ends = {GENERATED: "", REAL: "_real", OTHER: "_others"}
    kid = {GENERATED: "kid", REAL: "kid_reference", OTHER: "kid_others"}
    return pd.DataFrame(
        [
            {"candidate": kind, "n": counts[kind]}
            | {f"hit_rate{who}": metrics.get(f"hit_rate{ends[kind]}{who}", float("nan")) for who in ("", "_judge")}
            | {f"kid{end}": metrics[kid[kind] + end] for end in ("", "_low", "_high")}
            for kind in counts
        ]
    )


def _sentence(job: GanJob, metrics: dict[str, float], champion: RegisteredVersion | None) -> str:
    said = (
        f"the champion takes {metrics['hit_rate']:.1%} of {job.params.pictures:,} pictures for {job.animal} (of "
        f"held-out photos {metrics['hit_rate_real']:.1%}, of other animals {metrics['hit_rate_others']:.1%})"
        if champion
        else f"there is no champion that could judge yet: run retrain_{job.animal}, then this again"
    )
    return (
        f"{said}; the independent judge {metrics['hit_rate_judge']:.1%} ({metrics['hit_rate_real_judge']:.1%}, "
        f"{metrics['hit_rate_others_judge']:.1%}); KID {metrics['kid']:.3g} ({metrics['kid_low']:.3g} to "
        f"{metrics['kid_high']:.3g}) where photos have {metrics['kid_reference']:.3g} and other animals "
        f"{metrics['kid_others']:.3g}; diversity {metrics['diversity']:.2f} of the photos'; nearer to a training photo "
        f"than any new photo is: {metrics['copy_rate']:.1%}, where new photos would have "
        f"{metrics['copy_rate_by_chance']:.1%}, up to {metrics['copy_rate_by_chance_high']:.0%} by chance"
    )
