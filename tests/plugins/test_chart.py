from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from menagerie.chart import chart
from menagerie.store import Run

START = datetime(2026, 1, 1, tzinfo=UTC)
intervals = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted)


def run(number: int, low: float, mean: float, high: float) -> Run:
    metrics = {"cv_accuracy_low": low, "cv_accuracy_mean": mean, "cv_accuracy_high": high}
    ended = START + timedelta(days=number)
    return Run(f"{number}", "1", "FINISHED", ended, ended, metrics, {}, {})


@given(st.lists(intervals, min_size=1, max_size=16))
def test_everything_is_inside_the_frame_and_in_order(known: list[list[float]]) -> None:
    newest_first = [run(number, *numbers) for number, numbers in enumerate(known)][::-1]
    drawn = chart(newest_first)
    assert drawn is not None
    assert [point.run.id for point in drawn.points] == [f"{number}" for number in range(len(known))]
    assert all(drawn.left <= point.x <= drawn.right for point in drawn.points)
    heights = [drawn.lines[-1][0], *(y for y, _ in drawn.lines), drawn.lines[0][0]]
    assert 2 <= len(drawn.lines) <= 6
    for point in drawn.points:
        assert min(heights) <= point.high <= point.y <= point.low <= max(heights)


def test_runs_without_numbers_are_left_out() -> None:
    bare = Run("bare", "1", "FINISHED", START, START, {}, {}, {})
    assert chart([bare]) is None
    drawn = chart([bare, run(1, 0.8, 0.9, 0.95)])
    assert drawn is not None
    assert [text for _, text in drawn.lines] == ["80%", "85%", "90%", "95%"]
