import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise.metadata import roadname


@pytest.mark.parametrize(
    ("name", "road", "strekning", "hp", "meter", "lane"),
    [
        ("FV00013_S1D1_m00014_f1.jpg", ("F", "V", "13"), ("1", "1"), None, "14", "1"),
        ("Fy06_Ev134_hp05_f1_m03173.jpg", ("E", "V", "134"), None, "5", "3173", "1"),
        ("Fy06_Fv286_hp01_F2_m4478.jpg", ("F", "V", "286"), None, "1", "4478", "2"),
        ("EV00006_S58D1_m01024_KD2_m00012_f5K.jpg", ("E", "V", "6"), ("58", "1"), None, "12", "5K"),
        ("Ev134_hp1_km12,345_f2.jpg", ("E", "V", "134"), None, "1", "12345", "2"),
        ("Ev134_hp1_km12_345_f2.jpg", ("E", "V", "134"), None, "1", "12345", "2"),
        ("Rv7_km00,050.jpg", ("R", "V", "7"), None, None, "50", None),
        ("m00000_f01.jpg", None, None, None, "0", "1"),
        ("IMG_2034.jpg", None, None, None, None, None),
        ("Damåsen1_form2_hf3.jpg", None, None, None, None, None),
    ],
)
def test_file_names(
    name: str,
    road: tuple[str, str, str] | None,
    strekning: tuple[str, str] | None,
    hp: str | None,
    meter: str | None,
    lane: str | None,
) -> None:
    assert roadname.road(name) == road
    assert roadname.strekning(name) == strekning
    assert roadname.hp(name) == hp
    assert roadname.meter(name) == meter
    assert roadname.lane(name) == lane


@pytest.mark.parametrize(
    ("name", "junction"),
    [
        ("EV00006_S58D1_m01024_KD2_m00012_f1.jpg", ("1024", "2", None)),
        ("EV00006_S58D1_m01024_AD3_m00012_f1.jpg", ("1024", None, "3")),
        ("EV00006_S58D1_m01024_SD3_m00012_f1.jpg", ("1024", None, "3")),
        ("EV00006_S58D1_m01024_f1.jpg", None),
    ],
)
def test_junctions_and_side_facilities(name: str, junction: tuple[str, str | None, str | None] | None) -> None:
    assert roadname.junction(name) == junction


@pytest.mark.parametrize(
    ("folders", "county"),
    [
        (["06", "2018", "06_Ev134", "F1_2018_06_21"], "6"),
        (["2018", "201806"], None),
        (["13_Bergen"], None),
        (["50_Trøndelag", "2022"], "50"),
        (["46"], None),
        ([], None),
    ],
)
def test_county_folders(folders: list[str], county: str | None) -> None:
    assert roadname.county(folders) == county


@pytest.mark.parametrize(
    ("stem", "rest"),
    [
        ("Fy06_Ev134_hp05_f1_m03173", "Fy06_Ev134_hp05_m03173"),
        ("FV00013_S1D1_m00014_f1", "FV00013_S1D1_m00014"),
        ("F2_m4478", "m4478"),
        ("a_f5K", "a"),
        ("f1", "f1"),
        ("scene-f1-2", "scene--2"),
        ("photo", "photo"),
    ],
)
def test_names_without_their_lane(stem: str, rest: str) -> None:
    assert roadname.without_lane(stem) == rest


@pytest.mark.parametrize(
    ("folders", "reference"),
    [
        (["06", "06_Ev134", "Hp05_Damåsen", "F1_2018_06_21"], "06_Ev134/Hp05_Damåsen"),
        (["06_Ev134", "Hp05", "F2_2018", "utvalg"], "06_Ev134/Hp05"),
        (["Hp05", "F2_2018"], None),
        (["a", "b", "c"], None),
        (["a", "b", "FV00013"], None),
    ],
)
def test_folders_above_the_lane_folder(folders: list[str], reference: str | None) -> None:
    assert roadname.reference_folders(folders) == reference


def test_paths_split_on_both_separators() -> None:
    assert roadname.split_path("D:\\a/b\\\\c.jpg") == (("D:", "a", "b"), "c.jpg")
    assert roadname.split_path("c.jpg") == ((), "c.jpg")


@given(st.text(max_size=60))
def test_any_name_gives_plain_numbers_or_nothing(name: str) -> None:
    road, strekning = roadname.road(name), roadname.strekning(name)
    numbers = [road and road.number, roadname.hp(name), roadname.meter(name), *(strekning or ())]
    assert all(number is None or (number.isascii() and number.isdigit()) for number in numbers)
    assert roadname.without_lane(name) or not name
