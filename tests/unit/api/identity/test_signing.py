from hypothesis import given
from hypothesis import strategies as st

from exportd.api.identity.signing import Signer

SIGNER = Signer(b"k" * 32)

payloads = st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=5)


@given(payloads)
def test_what_was_signed_comes_back(payload: dict[str, object]) -> None:
    token = SIGNER.sign("page", payload)
    assert SIGNER.verify("page", token) == payload
    assert token.isascii()
    assert not set(token) & set("/+= ?&#%")


@given(payloads, st.data())
def test_whatever_is_changed_is_noticed(payload: dict[str, object], data: st.DataObject) -> None:
    token = SIGNER.sign("page", payload)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda character: character != token[place]))
    assert SIGNER.verify("page", token[:place] + other + token[place + 1 :]) is None
    assert SIGNER.verify("page", token[:place]) is None


@given(st.text())
def test_nothing_else_is_taken(text: str) -> None:
    assert SIGNER.verify("page", text) is None


def test_a_token_is_good_for_its_purpose_and_key_alone() -> None:
    token = SIGNER.sign("page", {"a": 1})
    assert SIGNER.verify("access", token) is None
    assert Signer(b"l" * 32).verify("page", token) is None
