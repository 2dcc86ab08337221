"""Who may do what in a review: users, their tokens, and roles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anonymise.core.errors import UsageError

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
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"review_users {file} cannot be read: {error}") from error
    users: dict[str, User] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, roles, digest = ([part.strip() for part in line.split(":")] + ["", "", ""])[:3]
        named = frozenset(role.strip() for role in roles.split(","))
        if not name or line.count(":") != 2 or not named <= set(ROLES) or not re.fullmatch("[0-9a-fA-F]{64}", digest):
            raise UsageError(
                f"review_users {file}, line {number}: not name:role,role:SHA-256 of the token; roles are "
                f"{', '.join(ROLES)}"
            )
        if name in (user.name for user in users.values()):
            raise UsageError(f"review_users {file}, line {number}: {name} stands there twice")
        users[digest.lower()] = User(name, named)
    if not users:
        raise UsageError(f"review_users {file} names nobody")
    return users
