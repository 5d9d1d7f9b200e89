"""Sessions are of one user, invitations of one use, and both end."""

from uuid import UUID

import pytest

from exportd.api.identity.client_table import Role
from exportd.console.sessions import (
    IDLE_S,
    INVITATION_S,
    MAX_SESSIONS_OF_A_USER,
    MAX_TRIES_OF_A_KEY,
    MAX_TRIES_OF_AN_ADDRESS,
    TRIES_TIME_S,
    Program,
    Sessions,
)
from tests.fixtures.fake_clock import FakeClock

ME, OTHER = 1000, 1001


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions(clock: FakeClock) -> Sessions:
    return Sessions(clock)


def test_an_invitation_is_good_once_for_the_user_who_was_invited(sessions: Sessions) -> None:
    invitation = sessions.invite(ME, read_only=True)
    secret = sessions.accept(invitation, ME)
    assert secret is not None
    found = sessions.find(secret, ME)
    assert found is not None
    assert (found.owner, found.read_only) == (ME, True)
    assert sessions.accept(invitation, ME) is None
    assert sessions.find(secret, OTHER) is None
    assert sessions.accept(sessions.invite(ME, read_only=False), OTHER) is None


async def test_an_invitation_ends_after_a_minute(sessions: Sessions, clock: FakeClock) -> None:
    late, early = sessions.invite(ME, read_only=False), sessions.invite(ME, read_only=False)
    await clock.advance(INVITATION_S - 1)
    assert sessions.accept(early, ME) is not None
    await clock.advance(1)
    assert sessions.accept(late, ME) is None


async def test_a_session_ends_when_it_was_idle_for_long_or_the_user_leaves(
    sessions: Sessions, clock: FakeClock
) -> None:
    secret, left = sessions.begin(ME, read_only=False), sessions.begin(ME, read_only=False)
    sessions.end(left)
    assert sessions.find(left, ME) is None
    for _ in range(3):
        await clock.advance(IDLE_S - 1)
        assert sessions.find(secret, ME) is not None
    await clock.advance(IDLE_S)
    assert sessions.find(secret, ME) is None


async def test_a_user_has_so_many_and_the_one_that_was_idle_longest_goes(sessions: Sessions, clock: FakeClock) -> None:
    of_other = sessions.begin(OTHER, read_only=False)
    secrets = []
    for _ in range(MAX_SESSIONS_OF_A_USER):
        secrets.append(sessions.begin(ME, read_only=False))
        await clock.advance(1)
    assert sessions.find(secrets[0], ME) is not None  # used again: the second is idle longest now
    sessions.begin(ME, read_only=False)
    assert [sessions.find(secret, ME) is None for secret in secrets] == [False, True, *[False] * (len(secrets) - 2)]
    assert sessions.find(of_other, OTHER) is not None
    invitations = [sessions.invite(ME, read_only=False) for _ in range(MAX_SESSIONS_OF_A_USER + 1)]
    assert sessions.accept(invitations[0], ME) is None
    assert sessions.accept(invitations[-1], ME) is not None


def test_over_tcp_a_session_is_a_programs_and_on_the_socket_a_users(sessions: Sessions) -> None:
    program = Program(UUID(int=7), Role.READER)
    of_program, of_user = sessions.begin(program, read_only=False), sessions.begin(ME, read_only=False)
    found = sessions.find(of_program, None)
    assert found is not None
    assert found.owner == program
    assert sessions.find(of_user, None) is None
    assert sessions.find(of_program, ME) is None


async def test_tries_to_sign_in_are_bounded_by_address_and_by_key(sessions: Sessions, clock: FakeClock) -> None:
    waits = [sessions.wait_of_address_s("192.0.2.1") for _ in range(MAX_TRIES_OF_AN_ADDRESS + 1)]
    assert (max(waits[:-1]), waits[-1] > 0, sessions.wait_of_address_s("192.0.2.2")) == (0, True, 0)
    waits = [sessions.wait_of_key_s("a") for _ in range(MAX_TRIES_OF_A_KEY + 1)]
    assert (max(waits[:-1]), waits[-1] > 0, sessions.wait_of_key_s("b")) == (0, True, 0)
    await clock.advance(TRIES_TIME_S)
    assert sessions.wait_of_key_s("a") == 0


def test_what_is_no_secret_opens_nothing(sessions: Sessions) -> None:
    for text in ("", "\ud800", "x" * 100_000):
        assert sessions.find(text, ME) is None
        assert sessions.accept(text, ME) is None


async def test_a_page_that_refreshes_by_itself_does_not_keep_a_session(sessions: Sessions, clock: FakeClock) -> None:
    secret = sessions.begin(ME, read_only=False)
    await clock.advance(IDLE_S - 1)
    assert sessions.find(secret, ME, is_use=False) is not None
    await clock.advance(1)
    assert sessions.find(secret, ME) is None
