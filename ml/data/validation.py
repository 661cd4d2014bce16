"""What is expected of photos and of datasets, as Great Expectations suites over the manifest.

A photo that fails is left out with its reason; a dataset that fails stops the run. Data Docs keep both.
"""

import html
import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ml.data import photos
from ml.data.splits import HOLDOUT
from ml.errors import DataError

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

NAMED = 10
NAMES = {"path", "problem", "copy_of"}
"""Columns with names of files."""


@dataclass(frozen=True)
class Check:
    """One expectation, and what its failure means for the owner of the photos."""

    expectation: "Expectation"
    says: str
    """What is wrong, or `{column}` to be filled from the photo's row."""
    do: str = ""
    """What to do, where the run stops."""
    warns_only: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a suite found."""

    failed: list[tuple[Check, list[str], Any]] = field(default_factory=list)
    """Per failed check: the offending paths (none where the whole table failed) and the observed value."""
    page: Path | None = None
    """The page of Data Docs."""


def refuse_photos(table: pd.DataFrame, docs: Path, smallest_side: int = 32) -> tuple[dict[str, str], Outcome]:
    """Return why which photos (by path) are left out, and the outcome with its page below `docs`.

    Raises:
        DataError: the same photo is both a positive and a negative; nobody but its owner knows which is right.
    """
    gxe = _expectations()
    between = gxe.ExpectColumnValuesToBeBetween
    checks = [
        Check(gxe.ExpectColumnValuesToBeNull(column="problem"), "{problem}"),
        Check(gxe.ExpectColumnValuesToBeInSet(column="format", value_set=list(photos.FORMATS)), "format {format}"),
        Check(gxe.ExpectColumnValuesToBeInSet(column="mode", value_set=list(photos.MODES)), "pixel mode {mode}"),
        Check(
            between(column="side", min_value=smallest_side),
            f"its smallest side is {{side:.0f}} pixels; at least {smallest_side} are expected",
        ),
        Check(between(column="aspect", max_value=4), "its sides are {aspect:.1f} to 1; at most 4 to 1 is expected"),
        Check(between(column="bytes", max_value=photos.MAX_BYTES), "it has {bytes} bytes"),
        Check(
            between(column="brightness", min_value=3, max_value=252),
            "its mean grey level is {brightness:.1f} of 255: nearly black or white",
        ),
        Check(between(column="contrast", min_value=2), "its grey levels vary by {contrast:.1f} only: it is blank"),
        Check(between(column="sharpness", min_value=0.3), "it is blurred beyond use (sharpness {sharpness:.2f})"),
        Check(gxe.ExpectColumnValuesToBeNull(column="copy_of"), "it is the same file as {copy_of}"),
    ]
    contradiction = Check(
        gxe.ExpectColumnValuesToBeInSet(column="contradicted", value_set=[False]),
        "the same photo is filed both as the animal and as another",
        "delete the wrong copies",
    )
    frame = table.assign(
        side=table[["width", "height"]].min(axis=1),
        aspect=table[["width", "height"]].max(axis=1) / table[["width", "height"]].min(axis=1),
        copy_of=table.first_path.where(table.first_path != table.path, None),
    )
    outcome = _validate("photos", frame, [*checks, contradiction], docs)
    reasons: dict[str, str] = {}
    by_path = frame.set_index("path")
    for check, paths, observed in outcome.failed:
        if check is contradiction:
            raise DataError(_stop(check, paths, observed, outcome.page))
        for path in paths:
            reasons.setdefault(path, check.says.format_map(by_path.loc[path]))
    return reasons, outcome


def require_dataset(
    manifest: pd.DataFrame, previous: pd.DataFrame | None, docs: Path, fewest: int = 10, most_left_out: float = 0.2
) -> tuple[list[str], Outcome]:
    """Check a manifest as a whole; return warnings (drift since the `previous` manifest), and the outcome.

    Raises:
        DataError: fewer than `fewest` photos of a kind, a class balance no classifier can learn from, more than the
            share `most_left_out` of photos left out, or a group cut by a fold.
    """
    gxe = _expectations()
    used = manifest.reason == ""
    training = used & (manifest.fold != HOLDOUT).fillna(False)
    frame = manifest.assign(
        positives=(training & (manifest.label == 1)).astype(int),
        negatives=(training & (manifest.label == 0)).astype(int),
        left_out=(~used).astype(float),
        training_label=manifest.label.where(training).astype(float),
        folds_of_group=manifest[used].groupby("group").fold.transform("nunique"),
        brightness=manifest.brightness.where(used),
        sharpness=manifest.sharpness.where(used),
    )
    checks = [
        Check(
            gxe.ExpectColumnSumToBeBetween(column=kind, min_value=fewest),
            f"too few {kind}: at least {fewest} accepted photos are expected",
            f"add photos of {meant}",
        )
        for kind, meant in (("positives", "the animal"), ("negatives", "other animals"))
    ]
    checks += [
        Check(
            gxe.ExpectColumnMeanToBeBetween(column="training_label", min_value=0.002, max_value=0.9),
            "the share of positives is outside 0.002 to 0.9",
            "add photos of the rarer kind",
        ),
        Check(
            gxe.ExpectColumnMeanToBeBetween(column="left_out", max_value=most_left_out),
            f"more than {most_left_out:.0%} of the photos were left out",
            "see the reasons; a folder may have been copied badly",
        ),
        Check(
            gxe.ExpectColumnValuesToBeBetween(column="folds_of_group", max_value=1),
            "photos that belong together stand in different folds",
            "run validate_images again",
        ),
        *(_drift_checks(previous) if previous is not None else []),
    ]
    outcome = _validate("dataset", frame, checks, docs)
    warnings = []
    for check, paths, observed in outcome.failed:
        if not check.warns_only:
            raise DataError(_stop(check, paths, observed, outcome.page))
        warnings.append(f"{check.says} (observed: {observed})")
    return warnings, outcome


def by_reason(reasons: Mapping[str, str], named: int = 3) -> str:
    """Return how many photos were left out for which reason, the most frequent first, with some of their paths each."""
    alike: dict[str, list[str]] = defaultdict(list)
    for path, reason in sorted(reasons.items()):
        # The same reason, whatever its numbers are, and whichever file it names.
        alike[re.sub(r"\d+(\.\d+)?", "…", re.sub(r"same file as .*", "same file as another", reason))].append(path)
    told = []
    for paths in sorted(alike.values(), key=lambda paths: (-len(paths), paths)):
        more = ", …" if len(paths) > named else ""
        reason = (
            reasons[paths[0]]
            if len(paths) == 1 or len({reasons[path] for path in paths}) == 1
            else (f"{reasons[paths[0]]}, and the like")
        )
        told.append(f"{len(paths)} ({', '.join(map(repr, paths[:named]))}{more}) because {reason}")
    return "; ".join(told)


def pages(docs: Path) -> list[Path]:
    """Return the pages of Data Docs below `docs`, one a suite that was validated."""
    return sorted((docs / "gx" / "uncommitted" / "data_docs" / "local_site" / "validations").rglob("*.html"))


def _drift_checks(previous: pd.DataFrame) -> list[Check]:
    gxe = _expectations()

    def partition(values: pd.Series) -> dict[str, list[float]]:
        inner = np.unique(np.quantile(values, np.linspace(0, 1, 11)))[1:-1]
        bins = [-1.0, *inner.tolist(), 256.0]
        counts, _ = np.histogram(values, bins)
        return {"bins": bins, "weights": (counts / counts.sum()).tolist()}

    rows = previous[previous.reason == ""]
    return [
        Check(
            gxe.ExpectColumnKLDivergenceToBeLessThan(
                column=column, partition_object=partition(rows[column]), threshold=0.1
            ),
            f"the photos' {column} has drifted since the last accepted version (Kullback-Leibler divergence over 0.1)",
            warns_only=True,
        )
        for column in ("brightness", "sharpness")
    ]


def _stop(check: Check, paths: list[str], observed: Any, page: Path | None) -> str:
    named = ", ".join(map(repr, paths[:NAMED])) + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")
    what = f"Photos: {named}" if paths else f"Received: {observed}"
    name = check.expectation.expectation_type
    return f"{check.says[0].upper()}{check.says[1:]} ({name}). {what}. To do: {check.do}. Data Docs: {page}"


def _expectations() -> Any:
    """Import Great Expectations, quietly: it logs hundreds of lines while it is imported."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations.expectations as gxe

    return gxe


def _validate(name: str, frame: pd.DataFrame, checks: list[Check], docs: Path) -> Outcome:
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction
    from great_expectations.data_context.types.base import ProgressBarsConfig

    docs.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=docs)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_or_update_pandas(name).add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe(name)
    suite = context.suites.add_or_update(gx.ExpectationSuite(name, [check.expectation for check in checks]))
    definition = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=name, data=batch, suite=suite)
    )
    checkpoint = context.checkpoints.add_or_update(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            actions=[UpdateDataDocsAction(name="docs")],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]},
        )
    )
    columns = dict.fromkeys(["path", *(check.expectation.column for check in checks)])
    # Data Docs write names into their pages as they are.
    names = {column: frame[column].map(html.escape, na_action="ignore") for column in NAMES.intersection(columns)}
    result = checkpoint.run(batch_parameters={"dataframe": frame[list(columns)].assign(**names)})
    ((identifier, run),) = result.run_results.items()
    (site,) = context.get_docs_sites_urls(resource_identifier=identifier)
    failed = []
    for check, found in zip(checks, run.results, strict=True):
        if found.exception_info.get("raised_exception"):
            raise DataError(f"{found.expectation_config.type} could not be checked: {found.exception_info}")
        if not found.success:
            offenders = [html.unescape(row["path"]) for row in found.result.get("unexpected_index_list") or []]
            observed = found.result.get("observed_value")
            failed.append((check, offenders, round(observed, 4) if isinstance(observed, float) else observed))
    return Outcome(failed, Path(site["site_url"].removeprefix("file://")))
