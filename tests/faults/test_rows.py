"""The faults, what is promised under each, and the tests that show it.

Under every one of them no byte leaves the permitted zones, there is one record and one metric, and nothing takes longer
than the configured timeout: `Stage` (tests/faults/staging.py) sees to that for the tests of this folder.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


@dataclass(frozen=True)
class Row:
    """shown: `file::test`, the file from tests/faults, or from tests where it has a folder."""

    fault: str
    promise: str
    shown: tuple[str, ...]


ROWS = [
    Row(
        "provider refused, all down",
        "502 or 503 within the connect timeout; only permitted providers are tried; no panic mode",
        (
            "test_providers_fail::test_when_all_that_is_permitted_fails_there_is_an_answer_in_time_and_nobody_else_is_asked",
            "test_providers_fail::test_while_all_are_down_every_answer_is_quick_and_there_is_no_panic",
            "test_providers_fail::test_one_that_is_down_gives_way_to_the_other",
        ),
    ),
    Row(
        "slow, black-holed",
        "504 at its deadline; the other providers' answers are not later",
        (
            "test_providers_fail::test_when_all_that_is_permitted_fails_there_is_an_answer_in_time_and_nobody_else_is_asked",
            "test_providers_fail::test_a_slow_provider_holds_up_nobody_elses",
            "test_providers_fail::test_a_throttled_provider_serves_slowly_and_whole",
            "test_network::test_a_cable_that_is_cut_costs_what_was_under_way_and_nothing_else",
            "test_network::test_a_thin_cable_is_slow_and_whole_and_holds_up_nobody_else",
        ),
    ),
    Row(
        "half-open idle connection",
        "noticed at checkout; one retry if nothing was sent",
        (
            "test_providers_fail::test_an_idle_connection_that_died_is_noticed_before_anything_is_sent",
            "test_providers_fail::test_an_idle_connection_that_was_cut_in_silence_is_a_504_and_not_used_again",
            "test_providers_fail::test_a_repeated_request_has_all_its_time_for_a_new_connection",
        ),
    ),
    Row(
        "a connection breaks at any byte, or carries garbage",
        "a whole answer, one of our own, or one that is visibly cut",
        (
            "test_every_byte::test_an_exchange_that_breaks_at_any_byte",
            "test_every_byte::test_a_connection_that_is_passed_on_and_breaks_at_any_byte",
            "test_providers_fail::test_an_answer_that_is_cut_off_never_looks_whole",
        ),
    ),
    Row(
        "non-idempotent request fails after sending",
        "502, never replayed",
        ("test_providers_fail::test_what_is_not_idempotent_is_never_sent_twice",),
    ),
    Row(
        "client leaves mid-upload",
        "provider side aborted within a second, also while reading is paused",
        ("test_providers_fail::test_who_leaves_in_mid_upload_leaves_nothing_at_the_provider",),
    ),
    Row(
        "certificate expired, wrong name, wrong CA, wrong pin; TLS that is cut",
        "502, no override; expiry as a metric days ahead; what is cut is not whole",
        (
            "test_trust::test_who_does_not_is_sent_nothing_and_nobody_else_is_asked",
            "test_trust::test_who_shows_a_good_certificate_is_served_and_its_expiry_is_known_ahead",
            "test_trust::test_an_answer_whose_tls_ends_without_a_word_is_not_whole",
            "http1/test_truncated_tls::test_a_body_is_whole_only_where_tls_ended_in_order",
        ),
    ),
    Row(
        "DNS fails",
        "the remembered address while it is fresh enough and still allowed, else 503",
        (
            "test_names::test_a_name_that_nobody_knows_is_a_503_in_time",
            "test_names::test_the_last_answer_serves_while_it_is_fresh_enough",
            "test_names::test_an_answer_that_leads_elsewhere_leads_nowhere",
            "providers/test_resolve::test_the_last_good_answer_stands_in_until_it_is_stale",
        ),
    ),
    Row(
        "directory, key service down or slow",
        "a verified answer within its age, else 503; never a default home",
        ("test_homes::test_a_verified_answer_serves_within_its_age_and_then_nobody_is_served",),
    ),
    Row(
        "GeoIP missing, corrupt, stale",
        "the old one kept; past max_age the country is unknown; a corrupt replacement is refused",
        (
            "test_homes::test_a_country_database_that_is_missing_corrupt_or_stale",
            "identity/test_renewal::test_no_bad_file_moves_anybody",
        ),
    ),
    Row(
        "broken policy on reload",
        "the old one serves, an error metric and log say why, `check` exits 1",
        ("test_operations::test_a_broken_policy_is_refused_in_words_and_in_figures_and_the_old_one_serves",),
    ),
    Row(
        "reload, worker killed, upgrade under load",
        "no request fails; a killed worker costs only its own connections",
        (
            "test_operations::test_a_worker_that_is_killed_costs_its_own_connections_and_no_others",
            "server/test_workers::test_reloads_and_upgrades_under_load_fail_no_request",
            "server/test_serving::test_reloads_under_load_fail_no_request",
        ),
    ),
    Row(
        "SIGTERM under load",
        "accept stops, keep-alive ends, what is in flight finishes within the grace time, exit 0",
        (
            "test_operations::test_sigterm_under_load_ends_everything_in_order",
            "server/test_serving::test_draining_ends_at_its_time",
        ),
    ),
    Row(
        "out of file descriptors",
        "accept pauses, no busy loop, admin still answers",
        ("test_this_machine::test_out_of_descriptors_accepting_pauses_nothing_spins_and_the_admin_endpoints_answer",),
    ),
    Row(
        "slow readers, slow writers, slow heads",
        "memory bounded by the high-water marks; 408 or close at the deadline",
        (
            "test_slow_peers::test_clients_that_do_not_read_cost_little_and_are_cut",
            "test_slow_peers::test_providers_that_do_not_read_stop_their_clients_and_are_given_up",
            "test_slow_peers::test_what_comes_too_slowly_is_a_408",
            "test_slow_peers::test_a_passed_connection_that_says_nothing_ends",
        ),
    ),
    Row(
        "disk full, slow log reader",
        "what must be recorded is recorded or the request is refused; what need not be never blocks a request",
        (
            "test_this_machine::test_a_full_disk_holds_up_no_request_and_costs_no_record_that_may_wait",
            "test_this_machine::test_a_reader_of_the_log_that_stops_holds_up_no_request_and_misses_nothing",
        ),
    ),
    Row(
        "clock jumps",
        "timeouts are monotonic",
        ("test_this_machine::test_a_clock_that_is_set_ends_nothing_and_delays_nothing",),
    ),
    Row(
        "all of them, at random, for long",
        "nothing is left behind, and memory does not grow",
        (
            "test_soak::test_random_faults_reloads_and_load_leave_nothing_behind",
            "test_soak::test_a_leak_is_its_own_slope_and_a_step_is_at_most_what_it_is_high",
            "test_soak::test_a_peak_is_no_growth",
        ),
    ),
]


@cache
def _tests(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_a_promise_is_shown(row: Row) -> None:
    for shown in row.shown:
        file, _, test = shown.partition("::")
        assert test in _tests((TESTS if "/" in file else TESTS / "faults") / f"{file}.py")


def test_every_test_of_this_folder_is_in_a_row() -> None:
    shown = {each for row in ROWS for each in row.shown}
    here = {f"{path.stem}::{test}" for path in (TESTS / "faults").glob("test_*.py") for test in _tests(path)}
    assert not {each for each in here - shown if "::test_" in each and not each.startswith("test_rows::")}
