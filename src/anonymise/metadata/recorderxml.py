"""Redaction of what names a person or a car in XML that comes inside images.

The recorders of the Norwegian Public Road Administration write XML into the EXIF tags 40055 and 40056. Redaction works
on the characters of the document and changes nothing else, so that what is not personal stays byte for byte as the
recorder wrote it.
"""

import html
import re
from collections.abc import Collection, Iterator
from enum import Enum, auto
from typing import NamedTuple

from anonymise.metadata.xmltext import MalformedXmlError, decode_xml, is_declaration, parse_xml

__all__ = ["REDACTED", "redact_text", "redact_xml", "scrub", "scrub_text"]

REDACTED = "FJERNET"
"""What stands in place of personal text ("removed")."""

_PERSONAL = frozenset({"driver", "carid", "comment"})
"""Names of personal elements and attributes in lower case: a recorder that spells them otherwise leaks as much."""

_NAMES_PERSON = frozenset({"driver", "carid"})
"""Those whose text points at one person or car, wherever else it stands. Comments are often everyday words."""

_MIN_SCRUBBED_LENGTH = 4
"""Shorter names ("P7") would hit ordinary words and numbers elsewhere."""

_MAX_NAMES = 16
_LONGEST_PERSON = 256
"""One image has one driver and one car; looking for thousands of names, or for long ones, would take minutes."""

_QUOTE_OR_END = re.compile("[\"'>]")
_NAME = re.compile(r"[^\s/>]+")
_ATTRIBUTE = re.compile(r"""(?P<lead>\s(?P<name>[^\s=]+)\s*=\s*)(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)')""")

_LEADING_ZEROS = re.compile(r"(&#[xX]?)0+(?=[0-9a-fA-F])")
_LONG_NUMBER = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")

_NESTED = re.compile(r"(?:<|&lt;|&\#0*60;|&\#x0*3c;)(?:[\w.-]+:)?(?:driver|carid|comment)\b", re.IGNORECASE)
"""A document quoted inside the text of another one."""


def redact_xml(data: bytes, also: Collection[str] = ()) -> bytes:
    """Remove what names a person or a car from a recorder's XML; everything else stays byte for byte.

    ``FJERNET`` replaces the content of every ``Driver``, ``CarID`` and ``Comment`` element (in any namespace and any
    case, with child elements and CDATA; an empty element stays empty), the values of attributes of these names or on
    these elements, XML comments, processing instructions, and text that quotes such an element. The driver's name
    and the car's id are also replaced where they stand elsewhere in the document.

    Args:
        data: the document, with or without byte-order mark.
        also: further names to replace, for instance those that another document of the same image holds.

    Returns:
        The redacted document in the same encoding; nothing (``b""``) where the document is malformed, since nobody
        can tell then what it holds.
    """
    try:
        document = decode_xml(data)
        redacted, names = redact_text(document.text)
    except MalformedXmlError:
        return b""
    return document.to_bytes(scrub_text(redacted, names | frozenset(also)))


def redact_text(text: str) -> tuple[str, frozenset[str]]:
    """Redact the personal elements, attributes and asides of a document.

    Returns:
        The document, and the names of drivers and cars that stood in it.

    Raises:
        MalformedXmlError: it is not well formed, or names more or longer drivers and cars than one image can have.
    """
    parse_xml(text)
    out: list[str] = []
    names: set[str] = set()
    personal, depth = "", 0  # the personal element that is open, and how many elements are open from it on
    content: list[str] = []  # what stands in it, token by token
    for token in _tokens(text):
        raw = token.text
        if depth:
            depth += (token.kind is _Kind.START and not raw.endswith("/>")) - (token.kind is _Kind.END)
            if depth:
                content.append(_characters(token))
            else:
                out += [REDACTED if content else "", raw]
                _remember(names, personal, "".join(content))
            continue
        match token.kind:
            case _Kind.START:
                personal = _local(_element_name(raw))
                out.append(_redact_attributes(raw, personal in _PERSONAL, names))
                depth, content = int(personal in _PERSONAL and not raw.endswith("/>")), []
            case _Kind.COMMENT:
                out.append(f"<!--{REDACTED}-->")
            case _Kind.INSTRUCTION if not is_declaration(raw):
                target = re.split(r"[\s?]", raw[2:], maxsplit=1)[0]
                out.append(f"<?{target} {REDACTED}?>")
            case _Kind.CDATA if _NESTED.search(raw):
                out.append(f"<![CDATA[{REDACTED}]]>")
            case _Kind.TEXT if _NESTED.search(raw):
                out.append(REDACTED)
            case _:
                out.append(raw)
    if len(names) > _MAX_NAMES or any(len(name) > _LONGEST_PERSON for name in names):
        raise MalformedXmlError("names more or longer drivers and cars than one image can have")
    return "".join(out), frozenset(names)


def scrub_text(text: str, names: Collection[str]) -> str:
    """Replace whole-word occurrences of names in the text and the attributes of a well-formed document."""
    plain = _folded(_unescaped(text))
    found = [name for name in names if _folded(name) in plain]
    if not found:
        return text

    def attribute(match: re.Match[str]) -> str:
        value = match["double"] if match["double"] is not None else match["single"]
        clean = scrub(value, found)
        return match[0] if clean == value else f'{match["lead"]}"{clean}"'

    out = []
    for token in _tokens(text):
        if token.kind is _Kind.START:
            out.append(_ATTRIBUTE.sub(attribute, token.text))
        else:
            out.append(scrub(token.text, found) if token.kind in (_Kind.TEXT, _Kind.CDATA) else token.text)
    return "".join(out)


def scrub(text: str, names: Collection[str]) -> str:
    """Replace whole-word occurrences of names in a text, which may spell them with XML entities."""
    if not names:
        return text
    spellings = {form for name in names for form in (name, html.escape(name), html.escape(name, quote=False))}
    for spelling in sorted(spellings, key=lambda form: (-len(form), form)):
        text = _without_word(text, spelling)
    plain = _unescaped(text)
    return REDACTED if plain != text and any(_without_word(plain, name) != plain for name in names) else text


def _without_word(text: str, word: str) -> str:
    """The text with ``FJERNET`` for a word, in any case, that no letter, digit or ``_`` touches.

    A plain search: a pattern of many alternatives would try all of them at every character.
    """
    folded, wanted = _folded(text), _folded(word)
    out: list[str] = []
    done, at = 0, folded.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if _touches_word(text, at - 1) or _touches_word(text, end):
            at = folded.find(wanted, at + 1)
            continue
        out += [text[done:at], REDACTED]
        done, at = end, folded.find(wanted, end)
    return "".join((*out, text[done:]))


def _touches_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")


def _folded(text: str) -> str:
    """The text for comparing without regard to case, character by character: as long as before."""
    folded = text.casefold()
    return folded if len(folded) == len(text) else "".join(c.casefold() if len(c.casefold()) == 1 else c for c in text)


def _unescaped(text: str) -> str:
    """The text with its entities and character references replaced.

    Leading zeros go first, and numbers that name no character stay: Python refuses to read very long ones.
    """
    return html.unescape(_LONG_NUMBER.sub("", _LEADING_ZEROS.sub(r"\1", text))) if "&" in text else text


class _Kind(Enum):
    COMMENT = auto()
    CDATA = auto()
    INSTRUCTION = auto()
    END = auto()
    START = auto()
    TEXT = auto()


class _Token(NamedTuple):
    kind: _Kind
    text: str


_MARKUP = (
    ("<!--", "-->", _Kind.COMMENT),
    ("<![CDATA[", "]]>", _Kind.CDATA),
    ("<?", "?>", _Kind.INSTRUCTION),
    ("</", ">", _Kind.END),
)
"""What begins a piece of markup, what ends it, and what it is (XML 1.0, productions 14 to 44); start tags aside."""


def _tokens(text: str) -> Iterator[_Token]:
    """The pieces of a well-formed document without document type, each character once and in order.

    A scanner and no pattern, so that time grows with the length only, whatever the text.

    Raises:
        MalformedXmlError: a piece has no end.
    """
    at = 0
    while at < len(text):
        kind, end = _end_of_markup(text, at) if text[at] == "<" else (_Kind.TEXT, text.find("<", at))
        if end < 0:
            if kind is not _Kind.TEXT:
                raise MalformedXmlError("not well formed")
            end = len(text)
        yield _Token(kind, text[at:end])
        at = end


def _end_of_markup(text: str, at: int) -> tuple[_Kind, int]:
    """What the markup that begins at ``at`` is, and where it ends; -1 where it does not."""
    for opening, closing, kind in _MARKUP:
        if text.startswith(opening, at):
            found = text.find(closing, at + len(opening))
            return kind, found + len(closing) if found >= 0 else -1
    return _Kind.START, _end_of_tag(text, at)


def _end_of_tag(text: str, at: int) -> int:
    """Where the start tag that begins at ``at`` ends; -1 where it does not. Quoted values may hold ``>``."""
    while found := _QUOTE_OR_END.search(text, at):
        if found[0] == ">":
            return found.end()
        closing = text.find(found[0], found.end())
        if closing < 0:
            return -1
        at = closing + 1
    return -1


def _element_name(tag: str) -> str:
    found = _NAME.match(tag, 1)
    return found[0] if found else ""


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()


def _characters(token: _Token) -> str:
    if token.kind is _Kind.CDATA:
        return token.text[len("<![CDATA[") : -len("]]>")]
    return _unescaped(token.text) if token.kind is _Kind.TEXT else ""


def _remember(names: set[str], element: str, content: str) -> None:
    name = content.strip()
    long_enough = len(name) >= _MIN_SCRUBBED_LENGTH and any(c.isalpha() for c in name)
    if element in _NAMES_PERSON and long_enough and name != REDACTED:
        names.add(name)


def _redact_attributes(tag: str, all_of_them: bool, names: set[str]) -> str:
    def redact(match: re.Match[str]) -> str:
        name = match["name"]
        value = match["double"] if match["double"] is not None else match["single"]
        if not value or name == "xmlns" or name.startswith("xmlns:"):
            return match[0]
        if not (all_of_them or _local(name) in _PERSONAL or _NESTED.search(value)):
            return match[0]
        _remember(names, _local(name), _unescaped(value))
        return f'{match["lead"]}"{REDACTED}"'

    return _ATTRIBUTE.sub(redact, tag)
