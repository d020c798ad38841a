"""A few rounds of ./dev faults, and how it judges."""

from __future__ import annotations

import pytest

from tests.faults.calls import Call, Tally, quantile
from tests.faults.network import Network, NetworkError
from tests.faults.run import CARRIERS, FAULTS, LATE_MAX_MS, PROGRAMS, Round, run

SEED = 7


def call(line: str) -> Call:
    return Call.parse(line)


def test_a_quantile_is_a_value_that_was_seen() -> None:
    assert quantile([], 0.99) == 0.0
    assert quantile([3.0], 0.5) == 3.0
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert quantile([float(value) for value in range(1, 101)], 0.99) == 99.0
    assert quantile([1.0] * 98 + [5.0, 9.0], 0.99) == 5.0


def test_lateness_is_of_the_calls_that_ran_into_their_deadline() -> None:
    tally = Tally()
    tally.add(call("load 10.0 11.0 10.5 OK 2097152 0"))
    tally.add(call("load 10.0 11.0 11.030 miss:deadline 0 0"))
    tally.add(call("connect 10.0 11.0 11.010 DEADLINE_EXCEEDED 0 0"))
    tally.add(call("timer 10.0 11.0 11.004 OK 0 0"))
    figures = tally.all_calls().figures()
    assert (figures["calls"], figures["reached"]) == (3, 2)
    assert figures["p50_ms"] == pytest.approx(10.0)
    assert figures["max_ms"] == pytest.approx(30.0)
    assert tally.lateness["timer"].figures()["max_ms"] == pytest.approx(4.0)


@pytest.mark.parametrize("word", ["INTERNAL", "UNKNOWN", "UNAUTHENTICATED", "miss:corrupt"])
def test_statuses_that_say_something_else_are_counted(word: str) -> None:
    tally = Tally()
    tally.add(call(f"lookup 10.0 11.0 10.5 {word} 0 0"))
    tally.add(call("lookup 10.0 11.0 10.5 miss:peer_lost 0 0"))
    assert dict(tally.unexpected) == {f"lookup {word}": 1}


def test_wrong_bytes_are_counted() -> None:
    tally = Tally()
    tally.add(call("load 10.0 11.0 10.5 OK 2097152 1"))
    assert tally.wrong == 1


def test_a_load_shows_health_by_its_bytes() -> None:
    assert call("lookup 10.0 11.0 10.5 miss:absent 0 0").shows_health
    assert call("load 10.0 11.0 10.5 OK 2097152 0").shows_health
    assert not call("load 10.0 11.0 10.5 miss:absent 0 0").shows_health
    assert not call("publish 10.0 11.0 10.5 UNAVAILABLE 0 0").shows_health


def test_rounds_are_the_same_for_a_seed_and_take_every_fault_in_turn() -> None:
    rounds = [Round.draw(SEED, number) for number in range(12)]
    assert rounds == [Round.draw(SEED, number) for number in range(12)]
    assert rounds != [Round.draw(SEED + 1, number) for number in range(12)]
    assert {one.fault for one in rounds[:6]} == set(FAULTS)
    assert {one.fault for one in rounds[6:]} == set(FAULTS)


@pytest.fixture
def network_can_be_made() -> None:
    for program in ("reprise", "fault_client"):
        if not (PROGRAMS / program).exists():
            pytest.skip(f"{program} is not built: ./dev build release")
    try:
        with Network():
            pass
    except NetworkError as error:
        pytest.skip(f"no network namespaces with a cable between them here: {error}")


@pytest.mark.usefixtures("network_can_be_made")
def test_every_fault_once() -> None:
    found = run([Round.draw(SEED, number) for number in range(len(FAULTS))], SEED, verbose=True)
    # So few calls have no 99th percentile; the bound of each holds.
    problems = found["problems"]
    assert isinstance(problems, list)
    assert [problem for problem in problems if " ms late " not in problem] == []
    assert found["rounds"] == dict.fromkeys(FAULTS, 1)
    clients = found["clients"]
    assert isinstance(clients, dict)
    for carrier in CARRIERS:
        assert clients[carrier]["late"]["reached"] > 0
        allowed = LATE_MAX_MS + clients[carrier]["timer"]["max_ms"]
        assert clients[carrier]["late"]["max_ms"] <= allowed
        assert clients[carrier]["outcomes"]["OK"] > 0
