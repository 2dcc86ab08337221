"""Hardened reading of XML that comes inside images.

It is input from outside: no entities, no document type, no network, a size limit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lxml import etree

__all__ = ["MalformedXmlError", "XmlText", "decode_xml", "flatten", "is_declaration", "mend_xml", "parse_xml"]

MAX_XML_BYTES = 1 << 20
"""Longest XML that is parsed. An EXIF block in a JPEG has 64 KiB at most; PNG has no such bound."""

_MAX_MENDED = 1 << 16
"""Longest text that is mended, in characters: what fits into a marker segment of a JPEG."""

_MAX_DEPTH, _LONGEST_NAME = 8, 64
"""Of the elements that ``flatten`` reads; the recorders have three levels."""

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

_DECLARED_ENCODING = re.compile(rb"<\?xml\s[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_LONGEST_DECLARATION = 256


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


def decode_xml(data: bytes, *, fallback: str | None = None) -> XmlText:
    """Decode an XML document: by its byte-order mark, by its first bytes (UTF-16), else as it declares.

    Args:
        data: the document.
        fallback: codec of a document that is not valid in its encoding; None refuses it.

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
            declared = _DECLARED_ENCODING.match(body.lstrip()[:_LONGEST_DECLARATION])
            label = declared[1].decode("ascii").lower() if declared else "utf-8"
            if label not in _ENCODINGS:
                raise MalformedXmlError("declares an encoding that is not read")
            codec = _ENCODINGS[label]
    try:
        decoded = body.decode(codec)
    except UnicodeDecodeError as error:
        if fallback is None:
            raise MalformedXmlError(f"not valid {codec} at byte {error.start}") from None
        codec = fallback
        decoded = body.decode(codec)
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
    return _parsed(text, recover=False)


def mend_xml(text: str) -> etree._Element:
    """The root element of a document that is not well formed, as far as it can be read.

    What stands where in it is a guess: take values out that are checked one by one, and never pass it on.

    Raises:
        MalformedXmlError: there is nothing to read, or a document type, or too much: mending may take the square of
            the length.
    """
    if len(text) > _MAX_MENDED:
        raise MalformedXmlError("not well formed, and too long to be mended")
    return _parsed(text, recover=True)


def _parsed(text: str, *, recover: bool) -> etree._Element:
    if "<!DOCTYPE" in text:
        raise MalformedXmlError("has a document type, which is not read")
    # lxml sees the very characters that redaction works on, so that the two cannot disagree about an encoding.
    body = text.lstrip()
    if is_declaration(body):
        body = body[body.find("?>") + len("?>") :]
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=recover,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        root: etree._Element | None = etree.fromstring(body.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as error:
        # libxml2's message may quote the document, and the document may name a person.
        line = getattr(error, "lineno", None)
        raise MalformedXmlError(f"not well formed (line {line})" if line else "not well formed") from None
    if root is None:
        raise MalformedXmlError("not well formed")
    return root


def flatten(root: etree._Element) -> dict[str, str]:
    """Texts of a document by their path of local names below the root, the first of each path.

    Attributes of the root are there as ``@name``. Namespaces are ignored. Texts that are empty or ``NaN`` are left
    out: they say that nothing is known. So are elements deeper than those of any recorder, and longer names: the time
    and memory that paths take grow with both.
    """
    values: dict[str, str] = {}

    def keep(path: str, text: str | None) -> None:
        stripped = (text or "").strip()
        if stripped and stripped.lower() != "nan":
            values.setdefault(path, stripped)

    for name, value in root.attrib.items():
        keep(f"@{etree.QName(str(name)).localname}", str(value))
    todo = [("", root, 1)]
    while todo:
        prefix, element, depth = todo.pop()
        branches = []
        for child in element:
            name = etree.QName(child).localname
            if len(name) > _LONGEST_NAME:
                continue
            keep(prefix + name, child.text)
            if len(child) and depth < _MAX_DEPTH:
                branches.append((f"{prefix}{name}/", child, depth + 1))
        todo.extend(reversed(branches))
    return values


def is_declaration(markup: str) -> bool:
    """Whether a processing instruction is the XML declaration."""
    return markup.startswith("<?xml") and markup[5:6].isspace()
