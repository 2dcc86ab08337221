"""GPano: what a panorama camera says about its projection and its pose, in XMP.

Google's Photo Sphere XMP metadata, namespace http://ns.google.com/photos/1.0/panorama/
(developers.google.com/streetview/spherical-metadata).
"""

from collections.abc import Mapping

from anonymise.exif.recorderxml import decode_xml, parse_xml

__all__ = ["read_gpano", "read_properties"]

_NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"


def read_gpano(packet: bytes) -> Mapping[str, str]:
    """The GPano properties of an XMP packet by their names.

    Raises:
        MalformedXmlError: the packet cannot be read.
    """
    return read_properties(packet, _NAMESPACE)


def read_properties(packet: bytes, namespace: str) -> Mapping[str, str]:
    """The properties of one namespace in an XMP packet by their names; XMP writes them as attributes or as elements.

    Raises:
        MalformedXmlError: the packet cannot be read.
    """
    prefix = f"{{{namespace}}}"
    root = parse_xml(decode_xml(packet).text)
    values: dict[str, str] = {}
    for element in root.iter():
        properties = [(str(name), str(value)) for name, value in element.attrib.items()]
        properties.append((str(element.tag), element.text or ""))
        for name, value in properties:
            if name.startswith(prefix) and value.strip():
                values.setdefault(name.removeprefix(prefix), value.strip())
    return values
