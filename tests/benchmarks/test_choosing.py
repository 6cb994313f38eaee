"""The benchmark of health and choice runs, and each of its requests is one."""

from benchmarks.choosing import measure


def test_it_measures_providers_of_one_and_of_several_endpoints() -> None:
    costs = measure((1, 3), requests=50, rounds=2)
    assert [cost.endpoints for cost in costs] == [1, 3]
    assert all(cost.request > 0 for cost in costs)
