"""The cost of sources is measured for every one of them, against stores that are really there."""

import pytest

from benchmarks.sources import bytes_an_entry, measure


@pytest.mark.debian
def test_every_source_has_its_figures() -> None:
    costs = measure(requests=50, subjects=100)
    assert [cost.source.split(" ")[0] for cost in costs] == ["location", "jwt", "home_cookie", *["directory"] * 4]
    assert all(cost.asked is not None for cost in costs)
    assert [cost.source for cost in costs if cost.known is None] == ["home_cookie"], "which remembers nothing"


def test_a_home_takes_few_bytes() -> None:
    assert 100 < bytes_an_entry(10_000) < 1000
