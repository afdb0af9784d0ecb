"""Claims of ``understudy.model.ids``: which ids are ours, and what is derived from them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import limits
from understudy.model.ids import Keys, SessionId, cookie_value, is_member_name

FIRST, SECOND, OTHER = b"first secret, long enough", b"second secret, long enough", b"nobody knows this secret"
RANDOM = bytes(range(16))
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@pytest.fixture
def keys() -> Keys:
    return Keys.from_secrets([FIRST])


def test_a_minted_id_has_the_shape_and_the_parts_that_it_was_made_of(keys: Keys) -> None:
    """An id is 32 characters [a-z2-7], with the random bytes as locator and secret, under the first secret."""
    minted = Keys.from_secrets([FIRST, SECOND]).mint(RANDOM)
    assert re.fullmatch("[a-z2-7]{32}", minted.text)
    assert (minted.locator, minted.secret, minted.ring) == (RANDOM[:8], RANDOM[8:], 0)


def test_the_format_of_ids_and_keys_does_not_change(keys: Keys) -> None:
    """Ids and keys of one release are those of the next: a change here would log everybody out."""
    minted = keys.mint(RANDOM)
    assert minted.text == "aaaqeayeaudaocajbifqydiob4pgk2a4"
    assert keys.key("default", minted).hex() == "295e95bf12bc51fcf303f06fae367fbc"
    assert keys.secret_hash(minted).hex() == "40e674d8d7993cbcfc373dfdfe7bc922"
    assert keys.map_key("flags", b"k").hex() == "b3e6c0e086abc55da43fba019a34891e"
    assert keys.link_keys()[0].hex() == "ee2eaecaf54187dce2c48602079a9583e53fd50c68f755d8faf619c00a6a94d2"


@given(st.binary(min_size=16, max_size=16))
def test_every_minted_id_is_verified(random_bytes: bytes) -> None:
    """What mint gives, verify gives back, by each member that has the secret."""
    minted = Keys.from_secrets([FIRST]).mint(random_bytes)
    assert Keys.from_secrets([b"  " + FIRST + b"\n"]).verify(minted.text) == minted


@given(st.text(max_size=40) | st.text(ALPHABET, min_size=32, max_size=32) | st.text(min_size=32, max_size=32))
def test_no_foreign_text_is_an_id_and_none_raises(text: str) -> None:
    """S05, S51: an id that the client chose is refused, whatever its characters."""
    assert Keys.from_secrets([FIRST, SECOND]).verify(text) is None


def test_an_id_with_any_one_character_changed_is_refused(keys: Keys) -> None:
    """S05: no part of an id can be altered: not the locator, not the secret, not the MAC."""
    text = keys.mint(RANDOM).text
    for position in range(32):
        for character in ALPHABET + "A0189_ +-!\x00é":
            altered = text[:position] + character + text[position + 1 :]
            assert (keys.verify(altered) is None) == (altered != text)


@pytest.mark.parametrize(
    "alter",
    [
        str.upper,
        lambda text: " " + text[1:],
        lambda text: text + "a",
        lambda text: text[:-1],
        lambda text: text[:-1] + "\n",
        lambda text: text + "\n",
        lambda text: "",
        lambda text: "\ud800" * 32,
    ],
)
def test_an_id_has_one_spelling(keys: Keys, alter) -> None:  # type: ignore[no-untyped-def]
    """S51: blanks, capitals and other lengths are refused, so that one session is never known by two texts."""
    assert keys.verify(alter(keys.mint(RANDOM).text)) is None


def test_an_id_under_another_secret_is_refused(keys: Keys) -> None:
    """S05, S53: an id that was minted without our secret is not ours."""
    assert keys.verify(Keys.from_secrets([OTHER]).mint(RANDOM).text) is None


def test_a_second_secret_still_verifies_and_keeps_the_key() -> None:
    """Replacing the secret logs nobody out: ids under the old one stay valid and have the same key and hash."""
    before = Keys.from_secrets([FIRST])
    after = Keys.from_secrets([SECOND, FIRST])
    old = before.mint(RANDOM)
    seen = after.verify(old.text)
    assert seen is not None
    assert seen.ring == 1
    assert after.key("default", seen) == before.key("default", old)
    assert after.secret_hash(seen) == before.secret_hash(old)
    assert after.mint(RANDOM).text != old.text
    assert before.verify(after.mint(RANDOM).text) is None


def test_rotation_changes_the_id_and_not_the_key() -> None:
    """S11: after a rotation the cookie is another, the secret's hash is another, the key is the same."""
    keys = Keys.from_secrets([SECOND, FIRST])
    old = keys.verify(Keys.from_secrets([FIRST]).mint(RANDOM).text)
    assert old is not None
    new = keys.rotated(old, b"\xff" * 8)
    assert keys.verify(new.text) == new
    assert new.text != old.text
    assert new.locator == old.locator
    assert new.secret == b"\xff" * 8
    assert keys.key("default", new) == keys.key("default", old)
    assert keys.secret_hash(new) != keys.secret_hash(old)


def test_an_old_secret_with_a_new_mac_is_not_an_id(keys: Keys) -> None:
    """S11: the parts of two valid ids of one session cannot be put together to a third."""
    old = keys.mint(RANDOM)
    new = keys.rotated(old, b"\xff" * 8)
    # The MAC is the last 32 bits; 25 of them are whole characters.
    assert keys.verify(old.text[:25] + new.text[25:]) is None
    assert keys.verify(new.text[:25] + old.text[25:]) is None


@pytest.mark.parametrize("count", [0, 8, 15, 17])
def test_mint_insists_on_sixteen_random_bytes(keys: Keys, count: int) -> None:
    """A caller that brings too little randomness is a defect, and is told at once."""
    with pytest.raises(AssertionError):
        keys.mint(bytes(count))


def test_rotation_insists_on_eight_random_bytes(keys: Keys) -> None:
    """A caller that brings too little randomness is a defect, and is told at once."""
    with pytest.raises(AssertionError):
        keys.rotated(keys.mint(RANDOM), bytes(7))


@pytest.mark.parametrize(
    ("suffix", "route"),
    [
        ("", ""),
        (".", ""),
        (".web1", "web1"),
        (".a-0", "a-0"),
        ("." + "a" * 32, "a" * 32),
        ("." + "a" * 33, ""),
        (".Web1", ""),
        (".web1.web2", ""),
        (".web_1", ""),
        (".web1\n", ""),
        (".wéb", ""),
        (". ", ""),
    ],
)
def test_a_cookie_gives_its_id_and_its_route(keys: Keys, suffix: str, route: str) -> None:
    """The id alone decides; a route that is absent or that no member can have is the empty hint."""
    minted = keys.mint(RANDOM)
    assert keys.read_cookie(minted.text + suffix) == (minted, route)


def test_a_cookie_that_is_not_ours_gives_nothing(keys: Keys) -> None:
    """S51: foreign, empty, cut and oversized cookies are refused without a record."""
    text = keys.mint(RANDOM).text
    longest = text + "." + "x" * (limits.COOKIE_CHARS_MAX - 33)
    assert keys.read_cookie(longest) is not None
    for value in ("", ".", ".web1", "web1." + text, text[:-1] + ".web1", "a" * 32, longest + "x", "x" * 10_000_000):
        assert keys.read_cookie(value) is None


def test_the_written_cookie_is_read_back_and_has_one_dot(keys: Keys) -> None:
    """Apache splits the cookie at the first dot, so there is exactly one."""
    minted = keys.mint(RANDOM)
    value = cookie_value(minted, "web1")
    assert value.count(".") == 1
    assert keys.read_cookie(value) == (minted, "web1")


@pytest.mark.parametrize("route", ["", "Web1", "a.b", "a" * 33, "a;b"])
def test_a_cookie_is_never_written_with_a_route_that_is_no_member(keys: Keys, route: str) -> None:
    """What cannot be a member's name cannot get into a cookie header."""
    with pytest.raises(AssertionError):
        cookie_value(keys.mint(RANDOM), route)


@pytest.mark.parametrize("name", ["a", "web1", "web-1", "0", "-", "a" * 32])
def test_member_names(name: str) -> None:
    """Lower-case letters, digits and hyphens, 1 to 32 of them, name a member."""
    assert is_member_name(name)


@pytest.mark.parametrize("name", ["", "A", "a" * 33, "a.b", "a b", "a\n", "a_b", "é", "١"])
def test_not_member_names(name: str) -> None:
    """Everything that a cookie, a balancer or a file name could read in another way is no member's name."""
    assert not is_member_name(name)


def test_keys_of_different_applications_and_locators_differ(keys: Keys) -> None:
    """Several applications on one cluster never meet: not the same session's keys, not by shifted bytes."""
    minted = keys.mint(RANDOM)
    neighbour = keys.mint(b"\x01" + RANDOM[1:])
    found = {keys.key(name, session) for name in ("", "a", "ab", "default", "é") for session in (minted, neighbour)}
    assert len(found) == 10
    assert {len(key) for key in found} == {16}


def test_map_keys_are_framed(keys: Keys) -> None:
    """Two replicated dictionaries never share a store key, also when name and key end in each other."""
    assert keys.map_key("ab", b"c") != keys.map_key("a", b"bc")
    assert keys.map_key("a", b"") != keys.map_key("", b"a")
    assert keys.map_key("a", b"b") == keys.map_key("a", b"b")
    assert len(keys.map_key("a", b"b")) == 16


def test_each_purpose_has_its_own_key(keys: Keys) -> None:
    """What one purpose gives away is no help with another: equal input, unrelated output."""
    minted = keys.mint(RANDOM)
    # The input that key() hashes for this name and locator is also what map_key() hashes here.
    assert keys.key("a", minted) != keys.map_key("a", minted.locator)
    assert keys.secret_hash(minted) != keys.key("", minted)
    assert Keys.from_secrets([OTHER]).link_keys() != keys.link_keys()


def test_a_link_key_per_secret_the_first_signs() -> None:
    """Members in the middle of a change of secrets can talk to each other: every secret has its link key."""
    one, two = Keys.from_secrets([FIRST]).link_keys(), Keys.from_secrets([SECOND, FIRST]).link_keys()
    assert [len(key) for key in two] == [32, 32]
    assert two[1] == one[0]
    assert two[0] != one[0]


def test_representations_of_an_id_open_nothing(keys: Keys) -> None:
    """S54: neither repr, str, format, nor a pretty printer's view of an id shows any part of it."""
    minted = keys.mint(RANDOM)
    shown = f"{minted!r} {minted!s} {minted} {minted.__rich_repr__()} {[minted]} {keys!r}"
    for part in (minted.text, minted.text[:8], minted.secret.hex(), repr(minted.secret), minted.locator.hex()):
        assert part not in shown


def test_ids_can_be_compared_and_kept_in_sets(keys: Keys) -> None:
    """An id is a value: frozen, equal to itself read again, hashable."""
    minted = keys.mint(RANDOM)
    assert {minted, keys.verify(minted.text)} == {minted}
    with pytest.raises(AttributeError):
        minted.text = "x"  # type: ignore[misc]
    assert isinstance(minted, SessionId)


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ([], "no secret"),
        ([b""], "secret 1 of 1 has 0 bytes"),
        ([FIRST, b"hunter2hunter2"], "secret 2 of 2 has 14 bytes"),
        ([b" " * 10 + b"hunter2" + b"\n" * 10], "has 7 bytes"),
    ],
)
def test_a_missing_or_short_secret_is_refused_with_what_to_do(secrets: list[bytes], said: str) -> None:
    """The message says which secret, how long it must be and how to make one, and never shows it."""
    with pytest.raises(ValueError, match=said) as caught:
        Keys.from_secrets(secrets)
    assert "token_hex" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_what_a_cookie_claims_is_what_its_parts_give(keys: Keys) -> None:
    """The first time and when it is remembered; for each application apart; a foreign cookie claims nothing."""
    minted = keys.mint(RANDOM)
    cookie = cookie_value(minted, "web1")
    for _ in range(2):
        for application in ("shop", "blog"):
            claim = keys.claim(application, cookie)
            assert claim is not None
            assert (claim.session_id, claim.route) == (minted, "web1")
            assert (claim.key, claim.secret) == (keys.key(application, minted), keys.secret_hash(minted))
        assert Keys.from_secrets([OTHER]).claim("shop", cookie) is None
        assert keys.claim("shop", cookie.upper()) is None


def test_a_claim_is_worked_out_once_while_it_is_one_of_the_last(keys: Keys) -> None:
    """Of so many cookies, however many come; a cookie that is too long is not even kept."""
    cookie = keys.mint(RANDOM).text
    assert keys.claim("shop", cookie) is keys.claim("shop", cookie)
    for number in range(limits.COOKIES_REMEMBERED_MAX + 1):
        keys.claim("shop", f"{number}" + "x" * limits.COOKIE_CHARS_MAX)
    assert keys._claim.cache_info().currsize == 1
    first = keys.claim("shop", cookie)
    for number in range(limits.COOKIES_REMEMBERED_MAX):
        keys.claim("shop", f"forged {number}")
    assert keys._claim.cache_info().currsize == limits.COOKIES_REMEMBERED_MAX
    again = keys.claim("shop", cookie)
    assert again is not first and again == first
