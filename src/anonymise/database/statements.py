"""SQL text → single statements. Knows strings, quoted names, comments and blocks, not the grammar."""

import re

__all__ = ["split_statements"]

_TOKEN = re.compile(
    r"""
      '(?:[^']|'')*'                                          # text
    | "(?:[^"]|"")*"                                          # quoted name
    | --[^\n]*
    | /\*.*?\*/
    | (?P<dollar>\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$).*?(?P=dollar)  # PostgreSQL's text
    | (?P<end>;)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_BLOCK = re.compile(
    r"(?:DECLARE|BEGIN\s+(?!TRANSACTION|WORK|IMMEDIATE|EXCLUSIVE|DEFERRED|;)"
    r"|CREATE\s+(?:OR\s+REPLACE\s+)?(?:(?:NON)?EDITIONABLE\s+)?(?:TEMP\w*\s+)?(?:TRIGGER|FUNCTION|PROCEDURE|PACKAGE|TYPE))\b",
    re.IGNORECASE,
)
_BLOCK_END = re.compile(r"^\s*/\s*$", re.MULTILINE)


def split_statements(sql: str) -> list[str]:
    """The statements in an SQL text, without the semicolons between them.

    A block with semicolons of its own (PL/SQL, the body of a trigger) is one statement and ends at a line with a single
    ``/``, as in Oracle's SQL*Plus, or at the end of the text. It keeps its last semicolon.

    Args:
        sql: one or more statements, with comments.
    """
    statements: list[str] = []
    rest = sql
    while rest := rest[_comment_length(rest) :].strip():
        if rest[0] in ";/":
            rest = rest[1:]
            continue
        if _BLOCK.match(rest):
            end = _BLOCK_END.search(rest)
            statement, rest = (rest, "") if end is None else (rest[: end.start()], rest[end.end() :])
        else:
            stop = next((found.start() for found in _TOKEN.finditer(rest) if found["end"]), len(rest))
            statement, rest = rest[:stop], rest[stop + 1 :]
        statements.append(statement.strip())
    return statements


def _comment_length(text: str) -> int:
    found = _COMMENT.match(text)
    return 0 if found is None else found.end()
