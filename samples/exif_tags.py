"""Metadata of a road camera, all values invented: EXIF with the road administration's own tags, and GPano XMP."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from anonymise.core.detections import Size

__all__ = ["ADDITIONAL_INFO", "IMAGE_PROPERTIES", "Shot", "gpano_xmp", "road_exif"]

IMAGE_PROPERTIES = 40055
"""EXIF tag of the recorder's own record, UTF-8 XML with a byte order mark."""

ADDITIONAL_INFO = 40056
"""EXIF tag of the road reference, UTF-8 XML with a byte order mark."""

_XML_SCHEMAS = {
    "xmlns:xsd": "http://www.w3.org/2001/XMLSchema",
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
}
_GEOID_M = 41.5
_RMS_ERRORS = {
    "North": "0.024",
    "East": "0.025",
    "Down": "0.041",
    "Roll": "0.016",
    "Pitch": "0.016",
    "Heading": "0.035",
}


@dataclass(frozen=True, slots=True)
class Shot:
    """One exposure of a camera that drives along E6.

    Attributes:
        time: local time.
        latitude: degrees north.
        longitude: degrees east.
        altitude_m: above the ellipsoid.
        heading_deg: clockwise from north.
        speed_m_s: of the car.
        meter: distance from the start of the road's section.
        storage: the recorder's own path, with backslashes.
        number: of the image in its series.
        orientation: EXIF Orientation, 1 to 8.
    """

    time: datetime
    latitude: float
    longitude: float
    altitude_m: float
    heading_deg: float
    speed_m_s: float
    meter: float
    storage: str
    number: int
    orientation: int = 1


def road_exif(shot: Shot, size: Size, *, panorama: bool = False) -> Image.Exif:
    """EXIF as the road administration's recorders write it.

    Args:
        shot: where and when.
        size: of the picture in pixels.
        panorama: also write ImageInfo, which only 360° recorders do.
    """
    exif = Image.Exif()
    exif[Base.Make] = "Anonymise"
    exif[Base.Model] = "Drawn 360" if panorama else "Drawn Street 3"
    exif[Base.Orientation] = shot.orientation
    exif[Base.XPTitle] = "Bilde fra anonymise samples".encode("utf-16-le")
    exif[IFD.Exif] = {
        Base.DateTimeOriginal: shot.time.strftime("%Y:%m:%d %H:%M:%S"),
        Base.ExifImageWidth: size.width,
        Base.ExifImageHeight: size.height,
    }
    exif[IFD.GPSInfo] = {
        GPS.GPSVersionID: b"\x02\x02\x00\x00",
        GPS.GPSLatitudeRef: "N",
        GPS.GPSLatitude: _degrees(shot.latitude),
        GPS.GPSLongitudeRef: "E",
        GPS.GPSLongitude: _degrees(shot.longitude),
        GPS.GPSAltitudeRef: b"\x00",
        GPS.GPSAltitude: IFDRational(round(shot.altitude_m * 100), 100),
        GPS.GPSImgDirectionRef: "T",
        GPS.GPSImgDirection: IFDRational(round(shot.heading_deg * 100), 100),
    }
    exif[IMAGE_PROPERTIES] = _blob(_image_properties(shot, size))
    exif[ADDITIONAL_INFO] = _blob(_additional_info(shot, panorama=panorama))
    return exif


def gpano_xmp(size: Size) -> bytes:
    """XMP that marks a whole 360° picture (Google's Photo Sphere metadata)."""
    fields = {
        "ProjectionType": "equirectangular",
        "UsePanoramaViewer": "True",
        "FullPanoWidthPixels": size.width,
        "FullPanoHeightPixels": size.height,
        "CroppedAreaImageWidthPixels": size.width,
        "CroppedAreaImageHeightPixels": size.height,
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": 0,
    }
    attributes = " ".join(f'GPano:{name}="{value}"' for name, value in fields.items())
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {attributes}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
    return packet.encode()


def _degrees(angle: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Degrees, minutes and seconds to a ten-thousandth."""
    units = round(angle * 3600 * 10000)
    minutes, seconds = divmod(units, 60 * 10000)
    return IFDRational(minutes // 60, 1), IFDRational(minutes % 60, 1), IFDRational(seconds, 10000)


def _sexagesimal(angle: float, hemisphere: str) -> str:
    degrees, minutes, seconds = _degrees(angle)
    return f"{int(degrees):02d}°{int(minutes):02d}'{float(seconds):07.4f}\"{hemisphere}"


_Tree = Mapping[str, "str | float | _Tree"]


def _append(parent: ElementTree.Element, tree: _Tree) -> None:
    for name, value in tree.items():
        child = ElementTree.SubElement(parent, name)
        if isinstance(value, Mapping):
            _append(child, value)
        else:
            child.text = str(value)


def _blob(root: ElementTree.Element) -> bytes:
    declaration = '<?xml version="1.0" encoding="utf-8"?>'
    return (declaration + ElementTree.tostring(root, encoding="unicode")).encode("utf-8-sig")


def _image_properties(shot: Shot, size: Size) -> ElementTree.Element:
    root = ElementTree.Element(
        "ImageProperties", {"Date": shot.time.isoformat(timespec="microseconds"), **_XML_SCHEMAS}
    )
    _append(
        root,
        {
            "ImageName": shot.storage,
            "ImageSequenceNumber": shot.number,
            "Speed": shot.speed_m_s,
            "Distance": shot.meter,
            "AirTemperature": "NaN",
            "Latitude": _sexagesimal(shot.latitude, "N"),
            "Longitude": _sexagesimal(shot.longitude, "E"),
            "Heading": shot.heading_deg,
            "VegComValues": {
                "VCCounty": "Trøndelag",
                "VCArea": "OPPDIKTET STREKNING",
                "VCCountyNo": 50,
                "VCRoad": "EV006",
                "VCHP": "S58D1",
                "VCLane": 1,
                "VCLaneName": 1,
                "VCMeter": shot.meter,
            },
            "BaseLinePosition": round(size.height * 0.64),
            "BaseLineTickInterval": 227,
            "BaseLineTickOffset": 0,
            "TiltPoint": round(size.height * 0.65),
            "Tilt": 0,
            "CameraPxWidth": size.width,
            "CameraPxHeight": size.height,
            "CameraHeight": 1.9,
            "BaselineDistance": 10,
            "GeoTag": {"dLatitude": shot.latitude, "dLongitude": shot.longitude, "dAltitude": shot.altitude_m},
            "Surroundings": {
                "EquipmentID": "P99",
                "Driver": "OPPDIKTET SJÅFØR",
                "CarID": "XX12345",
                "Comment": "Oppdiktet merknad om føreren",
            },
            "Note": "",
            "Comment": "",
            "Version": "5.0",
            "RecorderVersion": "0.0.0.1",
        },
    )
    return root


def _additional_info(shot: Shot, *, panorama: bool) -> ElementTree.Element:
    root = ElementTree.Element("AdditionalInfoNorway2", _XML_SCHEMAS)
    tree: dict[str, str | float | _Tree] = {
        "ActivFileVersion": 1,
        "RoadInfo": {
            "ReflinkId": 999001,
            "ReflinkPosition": round(0.1 + shot.meter / 10000, 9),
            "RoadIdent": f"EV6 S58D1 m{round(shot.meter)}",
        },
        "GnssInfo": {
            "Latitude": shot.latitude,
            "Longitude": shot.longitude,
            "Altitude": shot.altitude_m,
            "Roll": 0.296,
            "Pitch": 1.596,
            "Heading": shot.heading_deg,
            "Speed": shot.speed_m_s,
            "GeoidalSeparation": _GEOID_M,
            **{f"{name}RmsError": value for name, value in _RMS_ERRORS.items()},
        },
    }
    if panorama:
        tree["ImageInfo"] = {
            "roadtype": "Enkel bilveg",
            "meter": shot.meter,
            "fylke": 50,
            "StorageFile": shot.storage,
        }
    _append(root, tree)
    return root
