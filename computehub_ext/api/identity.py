"""How a request that Jupyter authenticated becomes a person with an account.

Jupyter's own login knows no people: whoever has the token or the password is the server's owner, and its user names are
drawn by lot for each browser. There everybody shares the owner's account. Any other identity provider (JupyterHub's, or
``TwoUserIdentityProvider`` below) authenticates people, and each user name has an account.
"""

from __future__ import annotations

import getpass
import hmac
import json
import os
import secrets
from collections.abc import Collection
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, LegacyIdentityProvider, PasswordIdentityProvider, User
from traitlets import Dict, TraitError, Unicode, default, validate

from computehub_ext.core.actor import Actor, Via

OWNER, PERSON = "owner", "person"

_OWNERS_PROVIDERS = (LegacyIdentityProvider, PasswordIdentityProvider, IdentityProvider)  # subclasses first
_DECIDES_WHO = ("get_user", "_get_user", "get_user_token", "user_from_cookie", "process_login_form")


def mode(provider: IdentityProvider, choice: str = "auto") -> str:
    """Return ``"owner"`` or ``"person"``: what ``choice`` says, or where it is ``"auto"`` what the provider can know.

    A subclass of Jupyter's providers that leaves it to them to say who somebody is knows no more than they do. An
    account for each of its user names would mean a welcome grant for each new browser.
    """
    if choice != "auto":
        return choice
    if not provider.auth_enabled:
        return OWNER
    if isinstance(provider, LegacyIdentityProvider):
        from jupyter_server.auth.login import LegacyLoginHandler

        if provider.login_handler_class is not LegacyLoginHandler:
            return PERSON
    base = next(base for base in _OWNERS_PROVIDERS if isinstance(provider, base))
    same = all(getattr(type(provider), name) is getattr(base, name) for name in _DECIDES_WHO)
    return OWNER if same else PERSON


def owner_username() -> str:
    """The account of a server that knows no people: the operating system's user, who owns the process anyway."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return OWNER


class Identity:
    """Who a request is from.

    Parameters
    ----------
    mode:
        ``"owner"`` or ``"person"``; see ``mode`` above.
    admins:
        User names that may see and change what belongs to others.
    owner:
        The account's name in ``"owner"`` mode.
    """

    def __init__(self, mode: str, admins: Collection[str] = (), owner: str | None = None) -> None:
        assert mode in (OWNER, PERSON), mode
        self.mode = mode
        self._admins = frozenset(admins)
        self._owner = owner or owner_username()

    def identify(self, handler: Any) -> Actor:
        """Return the actor of ``handler``, any of Jupyter's, whose ``current_user`` is set.

        A kernel's token never gets here: it is no login of the server, and ``core.web`` asks the notebook wing for it.
        """
        user: User = handler.current_user
        via = Via.TOKEN if handler.token_authenticated else Via.BROWSER
        username = self._owner if self.mode == OWNER else user.username
        # For the owner's token Jupyter draws a new name with each request: to keep it would be a write for each.
        drawn = self.mode == OWNER and via is Via.TOKEN
        return Actor(
            username=username,
            display_name="" if drawn else user.display_name,
            via=via,
            is_admin=username in self._admins,
        )


class TwoUserIdentityProvider(IdentityProvider):
    """Two people, alice and bob, each known by a token; for the demo, the tests and a classroom's trial.

    A token goes into Jupyter's login page, a URL's ``?token=`` or the header ``Authorization: token ...``. The server
    has no token of its own beside them: JupyterLab puts that one into everybody's page, where it would make each the
    same person.
    """

    tokens = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""User name to token; more than two may be named. Each token must be of at least eight characters and no
        two alike. By default read from the environment variable COMPUTEHUB_USER_TOKENS, a JSON object; where that is
        not set, alice and bob get random ones, which the server's log tells at its start.""",
    ).tag(config=True)

    @default("tokens")
    def _default_tokens(self) -> dict[str, str]:
        given = os.environ.pop("COMPUTEHUB_USER_TOKENS", None)  # taken out, or each kernel would inherit it
        if given:
            tokens: dict[str, str] = json.loads(given)
            return tokens
        self._told = {name: secrets.token_hex(16) for name in ("alice", "bob")}
        return self._told

    @validate("tokens")
    def _valid_tokens(self, proposal: Any) -> dict[str, str]:
        tokens: dict[str, str] = proposal["value"]
        if not tokens or any(not name or len(token) < 8 for name, token in tokens.items()):
            raise TraitError("TwoUserIdentityProvider.tokens needs a token of at least eight characters for each name.")
        if len(set(tokens.values())) < len(tokens):
            raise TraitError(
                "TwoUserIdentityProvider.tokens must differ from each other, or nobody could tell who it is."
            )
        return tokens

    @default("token")
    def _token_default(self) -> str:
        return ""

    _told: dict[str, str] | None = None

    def user_of(self, shown: str) -> User | None:
        """The person whose token was shown. Compares with every token, in a time that tells nothing."""
        found = None
        for name, token in self.tokens.items():
            if hmac.compare_digest(shown.encode(), token.encode()):
                found = User(username=name, name=name.title(), display_name=name.title(), initials=name[:1].upper())
        return found

    async def get_user_token(self, handler: Any) -> User | None:
        return self.user_of(self.get_token(handler) or "")

    def process_login_form(self, handler: Any) -> User | None:
        return self.user_of(handler.get_argument("password", default=""))

    def user_from_cookie(self, cookie_value: str) -> User | None:
        """Forget who is no longer in ``tokens``."""
        user = super().user_from_cookie(cookie_value)
        return user if user is not None and user.username in self.tokens else None

    def cookie_secret_hook(self, h: hmac.HMAC) -> hmac.HMAC:
        """A changed token ends the logins made with it."""
        h.update(json.dumps(self.tokens, sort_keys=True).encode())
        return h

    def validate_security(self, app: Any, ssl_options: dict[str, Any] | None = None) -> None:
        super().validate_security(app, ssl_options)
        tokens = self.tokens
        if tokens == self._told:
            for name, token in tokens.items():
                self.log.warning("%s logs in at %s?token=%s", name, app.display_url.split("?")[0], token)
