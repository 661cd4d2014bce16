"""Publication: the generator becomes a registered model, and the champion unless the champion clearly draws better."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from scipy import stats

from ml.analysis import generative
from ml.analysis.generative import CONFIDENCE, KernelDistance
from ml.results import StageResult
from ml.stages import crops, drawn
from ml.stages.gan_training import FEWEST_HELD_OUT, Judge
from ml.stages.job import Findings, GanJob, perform
from ml.tracking import CHALLENGER, CHAMPION, StageRun

STAGE = "publish"


def run(job: GanJob, trained: StageResult) -> StageResult:
    """Register the generator that `trained` left, and make it champion if it is not clearly worse than the champion.

    Both draw as many pictures as are judged: whose are farther from today's held-out photos (KID) decides. The metric
    `promoted` is 1 if the champion changed.
    """

    def work(stage: StageRun, _: Path) -> Findings:
        champion = job.tracker.champion(job.gan_name)
        if champion and champion.tags["dag_run"] == job.parent:
            return Findings(f"version {champion.version} was made champion by this run already", {"promoted": 1.0})
        if champion and champion.tags["generator"] == trained.run_id:
            return Findings(f"it is the champion already, version {champion.version}", {"promoted": 0.0})
        model = drawn.generator(job, trained)
        # A try that died after registering has left its version; it is used, not made again.
        made = job.tracker.registered_by(job.gan_name, job.parent) or stage.register(
            model, job.gan_name, _tags(job, trained), _description(job, model)
        )
        if champion is None:
            job.tracker.set_alias(made, CHAMPION)
            return Findings(f"version {made.version} is the first champion", {"promoted": 1.0})
        job.tracker.set_alias(made, CHALLENGER)
        change = _change(job, job.tracker.load_model(champion), model)
        worse = change.low > 0
        if not worse:
            job.tracker.set_alias(made, CHAMPION)
            job.tracker.drop_alias(made, CHALLENGER)
        said = (
            f"version {made.version} {'stays challenger: it draws' if worse else 'is champion: it does not draw'} "
            f"clearly worse than version {champion.version}; its KID to the same held-out photos is "
            f"{change.value:+.3g} from that one's ({change.low:+.3g} to {change.high:+.3g})"
        )
        metrics = {f"kid_change{end}": value for end, value in zip(("", "_low", "_high"), change, strict=True)}
        return Findings(said, metrics | {"promoted": float(not worse)})

    return perform(job, STAGE, {"generator": trained.run_id}, work, reuse=False)


def _change(job: GanJob, champion: keras.Model, model: keras.Model) -> KernelDistance:
    """Return by how much the KID is larger than the champion's, and its 95 % interval over the photos (jackknife)."""
    looks = [_looks(job, one) for one in (champion, model)]
    photos = len(looks[0][0])

    def change(kept: np.ndarray) -> float:
        before, after = (generative.kernel_distance(held_out[kept], made).value for held_out, made in looks)
        return after - before

    everyone = np.arange(photos)
    value = change(everyone)
    if photos <= FEWEST_HELD_OUT:
        return KernelDistance(value, -np.inf, np.inf)
    without_one = np.array([change(everyone[everyone != photo]) for photo in everyone])
    half = stats.t.ppf((1 + CONFIDENCE) / 2, photos - 1) * np.sqrt((photos - 1) * without_one.var())
    return KernelDistance(value, float(value - half), float(value + half))


def _looks(job: GanJob, model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the held-out photos at the size that the model draws, and of its pictures."""
    sized = replace(job, params=job.params.model_copy(update={"size": model.output_shape[1]}))
    held_out = crops.of(sized).held_out
    judge = Judge(held_out)
    return judge.features(held_out), judge.features(drawn.some(job, model))


def _tags(job: GanJob, trained: StageResult) -> dict[str, str]:
    return {
        "recipe": job.params.recipe,
        "dataset": job.digest,
        "dag_run": job.parent,
        "generator": trained.run_id,
    }


def _description(job: GanJob, model: keras.Model) -> str:
    latents, size = model.input_shape[1], model.output_shape[1]
    return (
        f"Draws {job.animal}. Recipe {job.params.recipe}, on dataset {job.digest}. Takes latents float32 "
        f"[N, {latents}], independent standard normals; returns uint8 RGB pictures [N, {size}, {size}, 3]. The same "
        "latent gives the same picture; what lies between two latents gives pictures between theirs."
    )
