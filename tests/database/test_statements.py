import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise.database.statements import split_statements

_BLOCK = "BEGIN\n  DELETE FROM t;\n  COMMIT;\nEND;"
_TRIGGER = "CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM u; END;"


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (" ;; -- nothing\n/* ; */ ;", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;", ["SELECT 1"]),
        ("SELECT ';' ; SELECT ';'';'", ["SELECT ';'", "SELECT ';'';'"]),
        ('SELECT "a;""b" FROM t; SELECT 2', ['SELECT "a;""b" FROM t', "SELECT 2"]),
        ("SELECT 1 -- a; b\n; SELECT /* ; */ 2", ["SELECT 1 -- a; b", "SELECT /* ; */ 2"]),
        ("-- first\nSELECT 1;", ["SELECT 1"]),
        ("SELECT $$a;b$$; SELECT $x$;$$;$x$", ["SELECT $$a;b$$", "SELECT $x$;$$;$x$"]),
        (_BLOCK, [_BLOCK]),
        (f"{_BLOCK}\n/\nSELECT 1", [_BLOCK, "SELECT 1"]),
        (_TRIGGER, [_TRIGGER]),
        ("BEGIN; DELETE FROM t; COMMIT", ["BEGIN", "DELETE FROM t", "COMMIT"]),
        ("SELECT 'open ; SELECT 2", ["SELECT 'open", "SELECT 2"]),
        ("CREATE TABLE types (a INT); SELECT 1", ["CREATE TABLE types (a INT)", "SELECT 1"]),
    ],
)
def test_statements(sql: str, statements: list[str]) -> None:
    assert split_statements(sql) == statements


@given(st.lists(st.text(alphabet="a';\"- \n", max_size=8), max_size=4))
def test_quoted_text_never_ends_a_statement(texts: list[str]) -> None:
    statements = [f"SELECT '{text.replace(chr(39), chr(39) * 2)}'" for text in texts]
    assert split_statements(";\n".join(statements)) == statements
