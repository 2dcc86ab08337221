"""A contact sheet: the published pictures of an output folder as pages that need no server, the doubtful ones first."""

import base64
import html
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from string import Template
from urllib.parse import quote_from_bytes

from anonymise import images
from anonymise.batch.journal import JournalReader, State
from anonymise.core.classes import LABELS
from anonymise.core.detections import Instance, Size
from anonymise.core.errors import ImageError, StorageError
from anonymise.core.orientation import detections_to_upright, to_upright, upright_size
from anonymise.core.plaintext import plural, printable
from anonymise.images import Header
from anonymise.review.pictures import Doubt, Picture, Published, Thresholds, doubts_by_neighbours
from anonymise.review.views import GROUPS, Ring, group_of, outline_of, reduced, rings_of_mask

__all__ = ["Sheet", "write_sheet"]

PER_PAGE = 300
"""Pictures on a page, which then takes about three megabytes."""

_THUMBNAIL = Size(352, 176)
_QUALITY = 75


@dataclass(frozen=True, slots=True)
class Sheet:
    """What was written.

    Attributes:
        page: the first page.
        n_pictures: number of pictures on all pages.
        n_doubtful: number of those that come first.
        n_pages: number of pages.
        problems: published pictures that cannot be shown, and why; a line each.
    """

    page: Path
    n_pictures: int
    n_doubtful: int
    n_pages: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Card:
    """A picture on the sheet.

    Attributes:
        thumbnail: JPEG in base64; None where the picture cannot be shown.
        size: of the upright picture.
        outlines: group of classes → outlines, in pixels of the upright picture; None where nobody wrote them down.
        problem: why the picture or its outlines cannot be shown.
    """

    picture: Picture
    doubt: Doubt
    thumbnail: str | None = None
    size: Size = _THUMBNAIL
    outlines: tuple[tuple[str, list[Ring]], ...] | None = None
    problem: str = ""


def write_sheet(output: Path, to: Path, thresholds: Thresholds, max_pixels: int) -> Sheet:
    """Writes the pages.

    Args:
        output: folder of the published pictures.
        to: folder for the pages; the first is ``index.html``. Pages of an earlier sheet are replaced.
        thresholds: class id → score from which on finds are hidden.
        max_pixels: larger pictures are named without being shown.

    Raises:
        StorageError: there is no journal in the output folder, or it or the pages cannot be read or written.
    """
    pictures = list(Published(output))
    with JournalReader(output) as journal:
        n_failed = journal.counts()[State.FAILED]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        scores = threads.map(lambda picture: picture.doubt_of_scores(thresholds), pictures)
        doubts = map(max, scores, doubts_by_neighbours(pictures))
        cards = sorted(map(_Card, pictures, doubts), key=lambda card: -card.doubt.degree)  # equal ones by path
        n_doubtful = sum(card.doubt.degree > 0 for card in cards)
        chunks = [cards[n : n + PER_PAGE] for n in range(0, len(cards), PER_PAGE)] or [[]]
        about = [f"{plural(len(cards), 'published picture')}; {n_doubtful} of them doubtful, the least certain first."]
        if n_failed:
            about.append(f"{plural(n_failed, 'image')} failed and have no published picture.")
        template = Template(Path(__file__).with_name("sheet.html").read_text("utf-8"))
        problems: list[str] = []
        try:
            to.mkdir(parents=True, exist_ok=True)
            for number, chunk in enumerate(chunks):
                shown = list(threads.map(partial(_drawn, max_pixels), chunk))
                problems += [f"{card.picture.relative}: {card.problem}" for card in shown if card.problem]
                page = template.substitute(
                    title=_text(f"Contact sheet: {output.absolute().name}"),
                    about="\n".join(f"<p>{_text(line)}</p>" for line in chain(about, _without_outlines(shown))),
                    legend=_legend(shown),
                    cards=_sections(shown, to),
                    pages=_pages(number, len(chunks)),
                )
                (to / _page(number)).write_text(page, "utf-8")
            number = len(chunks)
            while (stale := to / _page(number)).is_file():
                stale.unlink()
                number += 1
        except OSError as error:
            raise StorageError(f"The contact sheet {to} cannot be written: {error.strerror or error}") from error
    return Sheet(to / _page(0), len(cards), n_doubtful, len(chunks), tuple(map(printable, problems)))


def _page(number: int) -> str:
    return "index.html" if number == 0 else f"sheet_{number + 1}.html"


def _drawn(max_pixels: int, card: _Card) -> _Card:
    try:
        data = card.picture.read()
        head = images.header(data, max_pixels=max_pixels)
        scale = max(_THUMBNAIL.width / head.width, _THUMBNAIL.height / head.height)
        size = Size(max(1, round(head.width * scale)), max(1, round(head.height * scale)))
        thumbnail = images.encode_jpeg(reduced(data, size, max_pixels), _QUALITY)
        card = replace(
            card,
            thumbnail=base64.b64encode(thumbnail).decode("ascii"),
            size=upright_size(Size(head.width, head.height), head.orientation),
        )
        return replace(card, outlines=_outlines(card.picture, head, max_pixels))
    except (ImageError, OSError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        return replace(card, problem=f"cannot be shown: {reason}")


def _outlines(picture: Picture, head: Header, max_pixels: int) -> tuple[tuple[str, list[Ring]], ...] | None:
    tolerance = max(head.width / _THUMBNAIL.width, head.height / _THUMBNAIL.height) / 2
    found = picture.detections(Size(head.width, head.height))
    if found is not None:
        found = detections_to_upright(found, head.orientation)
        unsure = ((_group(instance) + " unsure", outline_of(instance, tolerance)) for instance in found.doubtful)
        hidden = ((_group(instance), outline_of(instance, tolerance)) for instance in found.instances)
        return (*hidden, *unsure)
    if not picture.mask.is_file():
        return None
    mask = images.decode(picture.mask.read_bytes(), max_pixels=max_pixels).pixels[..., 0] == 0
    return (("other", rings_of_mask(to_upright(mask, head.orientation), tolerance)),)


def _group(instance: Instance) -> str:
    return group_of(LABELS[instance.label])


def _without_outlines(cards: Sequence[_Card]) -> Iterator[str]:
    if any(card.outlines is None and not card.problem for card in cards):
        yield (
            "Some pictures have no outlines: runs with remote_instances: True write what was found next to the "
            "pictures, and the sheet then knows how sure that is."
        )


def _legend(cards: Iterable[_Card]) -> str:
    used = {group for card in cards for group, rings in card.outlines or () if rings}
    names = [(group, group) for group in GROUPS if group in used]
    names += [("other unsure", "doubtful, not hidden")] if any(group.endswith("unsure") for group in used) else []
    return "\n".join(
        f'<span class="key"><svg viewBox="0 0 32 8" aria-hidden="true"><path class="{group}" d="M2 4H30"/></svg> '
        f"{name}</span>"
        for group, name in names
    )


def _sections(cards: Sequence[_Card], to: Path) -> str:
    sections = []
    for is_doubtful, some in groupby(cards, key=lambda card: card.doubt.degree > 0):
        items = [_item(card, to) for card in some]
        title = "Doubtful" if is_doubtful else "Others"
        sections.append(f"<h2>{title} <small>{len(items)} on this page</small></h2>\n<ol>\n{''.join(items)}</ol>")
    return "\n".join(sections)


def _item(card: _Card, to: Path) -> str:
    found = ", ".join(f"{n} {name}" for name, n in card.picture.objects.items()) or "nothing hidden"
    if card.thumbnail is None:
        picture = f"<p>{_text(card.problem)}</p>"
    else:
        width, height = card.size
        paths = "".join(f'<path class="{group}" d="{_line(rings)}"/>' for group, rings in card.outlines or () if rings)
        picture = (
            f'<img src="data:image/jpeg;base64,{card.thumbnail}" alt="" decoding="async">'
            f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{paths}</svg>'
        )
    folder, _, name = card.picture.relative.rpartition("/")
    doubt = f'<span class="doubt">{_text(card.doubt.reason)}</span>' if card.doubt.degree > 0 else ""
    return (
        f'<li><a href="{_address(card.picture.file, to)}"><span class="picture">{picture}</span>'
        f'<span class="text"><span class="folder">{_text(folder)}</span><span class="name">{_text(name)}</span>'
        f'<span class="found">{_text(found)}</span>{doubt}</span></a></li>\n'
    )


def _line(rings: list[Ring]) -> str:
    """The outlines as SVG has them."""
    return "".join("M" + " ".join(f"{x},{y}" for x, y in ring) + "Z" for ring in rings)


def _address(file: Path, to: Path) -> str:
    """The file as seen from the pages; names may be of any bytes."""
    try:
        relative = os.path.relpath(file, to)
    except ValueError:  # on another drive
        return html.escape(file.absolute().as_uri())
    return html.escape(quote_from_bytes(os.fsencode(Path(relative).as_posix())))


def _pages(number: int, n_pages: int) -> str:
    if n_pages == 1:
        return ""
    links = (
        f'<b aria-current="page">{n + 1}</b>' if n == number else f'<a href="{_page(n)}">{n + 1}</a>'
        for n in range(n_pages)
    )
    return f'<nav aria-label="Pages">{"".join(links)}</nav>'


def _text(text: str) -> str:
    return html.escape(printable(text))
