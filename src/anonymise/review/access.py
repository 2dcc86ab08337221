"""Who may do what in a review: users, their tokens, and roles."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anonymise.service.web import read_tokens

__all__ = ["ROLES", "User", "read_users"]

ROLES = ("viewer", "reviewer", "original", "lead")
"""A reviewer decides and draws; original sees originals and calls finds false; a lead settles, and undoes for others.
Each may do what a viewer may, and the last two what a reviewer may.
"""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who looks at pictures.

    Attributes:
        name: pseudonym that stands in the store.
        roles: some of `ROLES`.
    """

    name: str
    roles: frozenset[str]

    def may(self, role: str) -> bool:
        """Whether somebody with these roles may do what a role may."""
        implied = {"viewer"} | ({"reviewer"} if self.roles & {"original", "lead"} else set())
        return role in self.roles | implied


def read_users(file: Path) -> Mapping[str, User]:
    """SHA-256 of a token → the user whose it is.

    Args:
        file: a line ``name:role,role:SHA-256`` for each; empty lines and those that begin with # are passed over.

    Raises:
        UsageError: it cannot be read, a line is none of these, or it names nobody.
    """
    some = "|".join(ROLES)
    pattern = rf"([^:]+):(\s*(?:{some})(?:\s*,\s*(?:{some}))*\s*):"
    found = read_tokens(file, pattern, f"name:role,role:SHA-256 of the token; roles are {', '.join(ROLES)}")
    return {
        digest: User(name, frozenset(role.strip() for role in roles.split(",")))
        for digest, (name, roles) in found.items()
    }
