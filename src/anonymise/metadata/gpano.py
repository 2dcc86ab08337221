"""GPano: what a panorama camera says about its projection and its pose, in XMP.

Google's Photo Sphere XMP metadata, namespace http://ns.google.com/photos/1.0/panorama/
(developers.google.com/streetview/spherical-metadata).
"""

from collections.abc import Iterable, Iterator, Mapping

from lxml import etree

from anonymise.metadata.xmltext import MalformedXmlError, decode_xml, mend_xml, parse_xml

__all__ = ["read_gpano", "read_properties"]

_NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"
_BEGIN, _END = "<?xpacket begin", "<?xpacket end"


def read_gpano(packets: Iterable[bytes], notes: list[str]) -> Mapping[str, str]:
    """The GPano properties of an image by their names, see ``read_properties``."""
    return read_properties(packets, _NAMESPACE, "GPano", notes)


def read_properties(packets: Iterable[bytes], namespace: str, prefix: str, notes: list[str]) -> Mapping[str, str]:
    """The properties of one namespace in an image's XMP by their names; XMP writes them as attributes or as elements.

    Cameras and stitchers write packets that are not well formed: these are read as far as they go, which is safe as
    long as what leaves is checked value by value.

    Args:
        packets: in the file's order, each also several in a row; of a property that is there twice, the first counts.
        namespace: its address; some writers forget the slash at its end.
        prefix: what it is called in packets that do not declare it.
        notes: takes what could not be read, or was mended.
    """
    spellings = (f"{{{namespace}}}", f"{{{namespace.rstrip('/')}}}", f"{prefix}:")
    values: dict[str, str] = {}
    for root in _roots(packets, notes):
        for element in root.iter():
            properties = [(str(name), str(value)) for name, value in element.attrib.items()]
            properties.append((str(element.tag), element.text or ""))
            for name, value in properties:
                spelling = next((start for start in spellings if name.startswith(start)), None)
                if spelling and value.strip():
                    values.setdefault(name.removeprefix(spelling), value.strip())
    return values


def _roots(packets: Iterable[bytes], notes: list[str]) -> Iterator[etree._Element]:
    for packet in packets:
        try:
            for part in _packets(decode_xml(packet, fallback="latin-1").text.replace("\0", "")):
                yield _root(part, notes)
        except MalformedXmlError as error:
            notes.append(f"XMP: left out, {error}")


def _root(packet: str, notes: list[str]) -> etree._Element:
    try:
        return parse_xml(packet)
    except MalformedXmlError as error:
        root = mend_xml(packet)
        notes.append(f"XMP: {error}; read as far as possible")
        return root


def _packets(text: str) -> Iterator[str]:
    """What stands between the begin and the end of each packet in a text: no junk before, between and after them."""
    begin = text.find(_BEGIN)
    if begin < 0:
        yield text
    while begin >= 0:
        following = text.find(_BEGIN, begin + 1)
        packet = (text[begin:following] if following >= 0 else text[begin:]).partition("?>")[2]
        end = packet.find(_END)
        yield packet[:end] if end >= 0 else packet
        begin = following
