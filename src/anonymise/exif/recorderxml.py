"""XML that comes inside images: hardened parsing, and redaction of what names a person or a car.

The recorders of the Norwegian Public Road Administration write XML into the EXIF tags 40055 and 40056. It is input
from outside: no entities, no document type, no network, a size limit. Redaction works on the characters of the
document and changes nothing else, so that what is not personal stays byte for byte as the recorder wrote it.
"""

import html
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lxml import etree

__all__ = [
    "REDACTED",
    "MalformedXmlError",
    "XmlText",
    "decode_xml",
    "flatten",
    "parse_xml",
    "redact_text",
    "redact_xml",
    "scrub",
    "scrub_text",
]

REDACTED = "FJERNET"
"""What stands in place of personal text ("removed")."""

MAX_XML_BYTES = 1 << 20
"""Longest XML that is parsed. An EXIF block in a JPEG has 64 KiB at most; PNG has no such bound."""

_PERSONAL = frozenset({"driver", "carid", "comment"})
"""Names of personal elements and attributes in lower case: a recorder that spells them otherwise leaks as much."""

_NAMES_PERSON = frozenset({"driver", "carid"})
"""Those whose text points at one person or car, wherever else it stands. Comments are often everyday words."""

_MIN_SCRUBBED_LENGTH = 4
"""Shorter names ("P7") would hit ordinary words and numbers elsewhere."""

_MAX_NAMES = 64
"""One image has one driver and one car; looking for thousands of names would take minutes."""

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))

_ENCODINGS: Mapping[str, str] = MappingProxyType(
    {
        "utf-8": "utf-8",
        "utf8": "utf-8",
        "ascii": "utf-8",
        "us-ascii": "utf-8",
        "iso-8859-1": "latin-1",
        "iso-8859-15": "iso8859-15",
        "windows-1252": "cp1252",
        # A document that is readable as ASCII cannot be UTF-16, whatever it declares (.NET's StringWriter does this).
        "utf-16": "utf-8",
    }
)
"""Declared encoding → codec of a document that is readable as ASCII up to its declaration."""

_DECLARATION = re.compile(r"<\?xml\s[^>]*\?>")
_DECLARED_ENCODING = re.compile(rb"<\?xml\s[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")

_TOKEN = re.compile(
    r"""
      (?P<comment> <!--.*?-->)
    | (?P<cdata>   <!\[CDATA\[.*?\]\]>)
    | (?P<pi>      <\?.*?\?>)
    | (?P<end>     </[^>]*>)
    | (?P<start>   <(?P<name>[^\s/>]+) (?:[^>"']|"[^"]*"|'[^']*')* >)
    | (?P<text>    [^<]+)
    """,
    re.VERBOSE | re.DOTALL,
)
"""Markup of a document that is known to be well formed and to have no document type (XML 1.0, productions 14 to 44)."""

_ATTRIBUTE = re.compile(r"""(?P<lead>\s(?P<name>[^\s=]+)\s*=\s*)(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)')""")

_NESTED = re.compile(r"(?:<|&lt;|&\#0*60;|&\#x0*3c;)(?:[\w.-]+:)?(?:driver|carid|comment)\b", re.IGNORECASE)
"""A document quoted inside the text of another one."""


class MalformedXmlError(ValueError):
    """The bytes are no XML that may be read; the message never quotes them."""


@dataclass(frozen=True, slots=True)
class XmlText:
    """A decoded XML document.

    Attributes:
        bom: the byte-order mark that stood before it, or nothing.
        text: its characters, without byte-order mark and trailing NULs.
        encoding: codec that turns ``text`` back into the same bytes.
        padding: trailing NUL bytes, which EXIF writers add.
    """

    bom: bytes
    text: str
    encoding: str
    padding: bytes

    def to_bytes(self, text: str) -> bytes:
        """The bytes of ``text`` in the form of this document."""
        return self.bom + text.encode(self.encoding, "xmlcharrefreplace") + self.padding


def decode_xml(data: bytes) -> XmlText:
    """Decode an XML document: by its byte-order mark, by its first bytes (UTF-16), else as it declares.

    Raises:
        MalformedXmlError: empty, too long, of an unknown encoding, or not valid in its encoding.
    """
    if len(data) > MAX_XML_BYTES:
        raise MalformedXmlError(f"longer than {MAX_XML_BYTES} bytes")
    bom, codec = next(((mark, name) for mark, name in _BOMS if data.startswith(mark)), (b"", ""))
    body = data[len(bom) :]
    if not codec:
        if body[:2] == b"<\0":
            codec = "utf-16-le"
        elif body[:2] == b"\0<":
            codec = "utf-16-be"
        else:
            declared = _DECLARED_ENCODING.match(body.lstrip())
            label = declared[1].decode("ascii").lower() if declared else "utf-8"
            if label not in _ENCODINGS:
                raise MalformedXmlError("declares an encoding that is not read")
            codec = _ENCODINGS[label]
    try:
        decoded = body.decode(codec)
    except UnicodeDecodeError as error:
        raise MalformedXmlError(f"not valid {codec} at byte {error.start}") from None
    text = decoded.rstrip("\0")
    if not text.strip():
        raise MalformedXmlError("empty")
    return XmlText(bom, text, codec, decoded[len(text) :].encode(codec))


def parse_xml(text: str) -> etree._Element:
    """The root element of a decoded document.

    Entities, document types, network access and deep or huge trees are refused.

    Raises:
        MalformedXmlError: not well formed, or with a document type.
    """
    if "<!DOCTYPE" in text:
        raise MalformedXmlError("has a document type, which is not read")
    # lxml sees the very characters that redaction works on, so that the two cannot disagree about an encoding.
    body = _DECLARATION.sub("", text.lstrip(), count=1)
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        return etree.fromstring(body.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as error:
        # libxml2's message may quote the document, and the document may name a person.
        line = getattr(error, "lineno", None)
        raise MalformedXmlError(f"not well formed (line {line})" if line else "not well formed") from None


def flatten(root: etree._Element) -> dict[str, str]:
    """Texts of a document by their path of local names below the root, the first of each path.

    Attributes of the root are there as ``@name``. Namespaces are ignored. Texts that are empty or ``NaN`` are left
    out: they say that nothing is known.
    """
    values: dict[str, str] = {}

    def keep(path: str, text: str | None) -> None:
        stripped = (text or "").strip()
        if stripped and stripped.lower() != "nan":
            values.setdefault(path, stripped)

    for name, value in root.attrib.items():
        keep(f"@{etree.QName(str(name)).localname}", str(value))
    todo = [("", root)]
    while todo:
        prefix, element = todo.pop()
        branches = []
        for child in element:
            path = prefix + etree.QName(child).localname
            keep(path, child.text)
            if len(child):
                branches.append((path + "/", child))
        todo.extend(reversed(branches))
    return values


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
        parse_xml(document.text)
        redacted, names = redact_text(document.text)
    except MalformedXmlError:
        return b""
    return document.to_bytes(scrub_text(redacted, names | frozenset(also)))


def redact_text(text: str) -> tuple[str, frozenset[str]]:
    """Redact the personal elements, attributes and asides of a well-formed document.

    Returns:
        The document, and the names of drivers and cars that stood in it.

    Raises:
        MalformedXmlError: it names more of them than one image can have.
    """
    out: list[str] = []
    names: set[str] = set()
    personal, depth = "", 0  # the personal element that is open, and how many elements are open from it on
    content: list[str] = []  # what stands in it, token by token
    for token in _TOKEN.finditer(text):
        raw = token[0]
        if depth:
            depth += (bool(token["start"]) and not raw.endswith("/>")) - bool(token["end"])
            if depth:
                content.append(_characters(token))
            else:
                out += [REDACTED if content else "", raw]
                _remember(names, personal, "".join(content))
        elif token["start"]:
            personal = _local(token["name"])
            out.append(_redact_attributes(raw, personal in _PERSONAL, names))
            depth, content = int(personal in _PERSONAL and not raw.endswith("/>")), []
        elif token["comment"]:
            out.append(f"<!--{REDACTED}-->")
        elif token["pi"] and not _DECLARATION.fullmatch(raw):
            target = re.split(r"[\s?]", raw[2:], maxsplit=1)[0]
            out.append(f"<?{target} {REDACTED}?>")
        elif token["cdata"] and _NESTED.search(raw):
            out.append(f"<![CDATA[{REDACTED}]]>")
        elif token["text"] and _NESTED.search(raw):
            out.append(REDACTED)
        else:
            out.append(raw)
    if len(names) > _MAX_NAMES:
        raise MalformedXmlError(f"names more than {_MAX_NAMES} drivers and cars")
    return "".join(out), frozenset(names)


def scrub_text(text: str, names: Collection[str]) -> str:
    """Replace whole-word occurrences of names in the text and the attributes of a well-formed document."""
    if not any(name.lower() in html.unescape(text).lower() for name in names):
        return text

    def attribute(match: re.Match[str]) -> str:
        value = match["double"] if match["double"] is not None else match["single"]
        clean = scrub(value, names)
        return match[0] if clean == value else f'{match["lead"]}"{clean}"'

    out = []
    for token in _TOKEN.finditer(text):
        if token["start"]:
            out.append(_ATTRIBUTE.sub(attribute, token[0]))
        else:
            out.append(scrub(token[0], names) if token["text"] or token["cdata"] else token[0])
    return "".join(out)


def scrub(text: str, names: Collection[str]) -> str:
    """Replace whole-word occurrences of names in a text, which may spell them with XML entities."""
    if not names:
        return text
    spellings = {form for name in names for form in (name, html.escape(name), html.escape(name, quote=False))}
    alternatives = "|".join(re.escape(form) for form in sorted(spellings, key=lambda form: (-len(form), form)))
    pattern = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)
    clean = pattern.sub(REDACTED, text)
    return REDACTED if pattern.search(html.unescape(clean)) else clean


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()


def _characters(token: re.Match[str]) -> str:
    if token["cdata"]:
        return token[0][len("<![CDATA[") : -len("]]>")]
    return html.unescape(token[0]) if token["text"] else ""


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
        _remember(names, _local(name), html.unescape(value))
        return f'{match["lead"]}"{REDACTED}"'

    return _ATTRIBUTE.sub(redact, tag)
