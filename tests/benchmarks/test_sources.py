"""The cost of sources is measured for every one of them, against stores that are really there."""

from benchmarks.sources import bytes_an_entry, measure


def test_every_source_has_its_figures() -> None:
    costs = measure(requests=50, subjects=100)
    assert [cost.source.split(" ")[0] for cost in costs] == ["location", "jwt", *["directory"] * 4]
    assert all(cost.known is not None and cost.asked is not None for cost in costs)


def test_a_home_takes_few_bytes() -> None:
    assert 100 < bytes_an_entry(10_000) < 1000
