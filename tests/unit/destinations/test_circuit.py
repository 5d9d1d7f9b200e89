from exportd.destinations.circuit import Circuit, CircuitState, circuit_for


def test_it_opens_after_a_failure_and_lets_one_try_after_the_pause() -> None:
    circuit = Circuit(first_pause_s=30)
    assert circuit.admits(0)
    circuit.failed(100)
    assert circuit.state(100) is CircuitState.OPEN
    assert not circuit.admits(129)
    assert circuit.closes_in_s(120) == 10
    assert circuit.state(130) is CircuitState.HALF_OPEN
    assert [circuit.would_admit(now) for now in (129, 130, 130)] == [False, True, True], "a question takes no place"
    assert circuit.admits(130)
    assert not circuit.would_admit(131)
    assert not circuit.admits(131), "a second one waits for the first one's answer"


def test_success_closes_it() -> None:
    circuit = Circuit(first_pause_s=30)
    circuit.failed(0)
    assert circuit.admits(30)
    circuit.succeeded()
    assert circuit.state(30) is CircuitState.CLOSED
    assert circuit.admits(30)
    assert circuit.admits(30)


def test_each_further_failure_doubles_the_pause_up_to_a_limit() -> None:
    circuit, now, pauses = Circuit(first_pause_s=30, longest_pause_s=100), 0.0, []
    for _ in range(4):
        assert circuit.admits(now)
        circuit.failed(now)
        pauses.append(circuit.closes_in_s(now))
        now += pauses[-1]
    assert pauses == [30, 60, 100, 100]


def test_what_was_under_way_when_it_opened_does_not_lengthen_the_pause() -> None:
    circuit = Circuit(first_pause_s=30)
    circuit.failed(0)
    circuit.failed(10)
    assert circuit.closes_in_s(10) == 20


def test_a_try_that_was_cancelled_makes_room_for_another() -> None:
    circuit = Circuit(first_pause_s=30)
    circuit.failed(0)
    assert circuit.admits(30)
    circuit.given_up()
    assert circuit.admits(31)


def test_who_comes_during_a_try_comes_again_later() -> None:
    circuit = Circuit(first_pause_s=30)
    circuit.failed(0)
    assert circuit.admits(30)
    assert circuit.closes_in_s(31) == 30


def test_its_pauses_follow_from_what_a_failure_costs() -> None:
    circuit, now, pauses = circuit_for(120), 0.0, []
    for _ in range(7):
        circuit.failed(now)
        pauses.append(circuit.closes_in_s(now))
        now += pauses[-1]
        assert circuit.admits(now)
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
