"""Where a login knows people each has an account; where it knows none everybody shares the owner's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from jupyter_server.auth.identity import IdentityProvider, LegacyIdentityProvider, PasswordIdentityProvider, User
from traitlets import TraitError
from traitlets.config import Config

from computehub_ext.api.identity import Identity, TwoUserIdentityProvider, mode
from computehub_ext.core.actor import Via


class KnowsPeople(IdentityProvider):
    def get_user(self, handler: Any) -> User | None:
        return User("carol")


class NicerCookies(PasswordIdentityProvider):
    """Knows no more than its base."""

    def get_cookie_name(self, handler: Any) -> str:
        return "nicer"


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (IdentityProvider(token="t"), "owner"),
        (PasswordIdentityProvider(token="t"), "owner"),
        (PasswordIdentityProvider(token=""), "owner"),
        (NicerCookies(token="t"), "owner"),
        (LegacyIdentityProvider(token="t"), "owner"),
        (KnowsPeople(), "person"),
        (TwoUserIdentityProvider(tokens={"alice": "a-token-of-alice"}), "person"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, IdentityProvider) else value,
)
def test_auto_asks_who_decides_who_somebody_is(provider: IdentityProvider, expected: str) -> None:
    assert mode(provider) == expected


def test_an_administrator_may_choose() -> None:
    assert mode(KnowsPeople(), "owner") == "owner"
    assert mode(PasswordIdentityProvider(token="t"), "person") == "person"


@dataclass
class Request:
    current_user: User
    token_authenticated: bool = False


def test_the_owner_is_one_account_whatever_name_a_browser_drew() -> None:
    identity = Identity("owner", owner="ada")
    first = identity.identify(Request(User("0f31", "Anonymous Thebe", "Anonymous Thebe")))
    second = identity.identify(Request(User("77ab", "Anonymous Metis", "Anonymous Metis"), token_authenticated=True))
    assert (first.username, first.display_name, first.via) == ("ada", "Anonymous Thebe", Via.BROWSER)
    assert (second.username, second.display_name, second.via) == ("ada", "", Via.TOKEN)


def test_people_are_their_user_names_and_admins_are_named() -> None:
    identity = Identity("person", admins=["bob"])
    assert not identity.identify(Request(User("alice"))).is_admin
    assert identity.identify(Request(User("bob"))).is_admin


def test_a_name_that_is_claimed_makes_nobody_an_admin() -> None:
    identity = Identity("person", admins=["bob"])
    assert not identity.identify(Request(User("alice", "bob", "bob"))).is_admin


def provider(**tokens: str) -> TwoUserIdentityProvider:
    return TwoUserIdentityProvider(config=Config(TwoUserIdentityProvider={"tokens": tokens}))


def test_a_token_is_its_person() -> None:
    people = provider(alice="a-token-of-alice", bob="a-token-of-bob")
    assert people.user_of("a-token-of-bob") == User("bob", "Bob", "Bob", "B")
    assert people.user_of("a-token-of-carol") is None
    assert people.user_of("") is None
    assert people.user_of("tökén") is None


def test_jupyterlab_gets_no_token_to_put_into_everybodys_page() -> None:
    assert provider(alice="a-token-of-alice").token == ""


@pytest.mark.parametrize(
    "tokens", [{}, {"alice": "short"}, {"": "long enough"}, {"alice": "the same", "bob": "the same"}]
)
def test_tokens_that_would_let_anybody_in_are_refused_at_the_start(tokens: dict[str, str]) -> None:
    with pytest.raises(TraitError):
        provider(**tokens).tokens  # noqa: B018


def test_a_person_who_is_no_longer_named_is_logged_out() -> None:
    both = provider(alice="a-token-of-alice", bob="a-token-of-bob")
    cookie = both.user_to_cookie(User("bob"))
    assert both.user_from_cookie(cookie) == User("bob")
    assert provider(alice="a-token-of-alice").user_from_cookie(cookie) is None


def test_tokens_from_the_environment_are_taken_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel inherits the server's environment."""
    monkeypatch.setenv("COMPUTEHUB_USER_TOKENS", json.dumps({"alice": "a-token-of-alice"}))
    people = TwoUserIdentityProvider()
    assert people.tokens == {"alice": "a-token-of-alice"}
    assert "COMPUTEHUB_USER_TOKENS" not in os.environ


def test_without_tokens_two_people_get_random_ones() -> None:
    assert list(TwoUserIdentityProvider().tokens) == ["alice", "bob"]
    assert TwoUserIdentityProvider().tokens != TwoUserIdentityProvider().tokens


def test_importing_the_api_reads_no_contract_and_no_database() -> None:
    code = (
        "import sys, jupyter_server.serverapp; known = set(sys.modules);"
        "import computehub_ext.api.routes, computehub_ext.api.identity;"
        "new = {name.split('.')[0] for name in set(sys.modules) - known}; print(new - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'computehub_ext'}", "what the server had not imported anyway"
