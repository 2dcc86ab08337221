"""What several keys must meet together, and when a key has an effect that somebody can see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anonymise.config.config import Config

__all__ = ["EFFECTS", "RULES", "Effect", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition that several keys, or a key and the command line, must meet together.

    Attributes:
        keys: those concerned; the problem is reported at the one that was set last, so that nobody is sent to the
            defaults for what the operator's own file has caused.
        broken: whether the values (and whether the run has an archive folder) break the rule.
        message: why, and the way out.
    """

    keys: tuple[str, ...]
    broken: Callable[[Mapping[str, Any], bool], bool]
    message: str

    @property
    def key(self) -> str:
        """The key that the message is about."""
        return self.keys[0]


def _needs(key: str, other: str) -> Rule:
    return Rule((key, other), lambda v, _: bool(v[key]) and not v[other], f"needs {other}")


def _needs_archive(key: str) -> Rule:
    return Rule((key,), lambda v, archive: bool(v[key]) and not archive, "needs an archive folder (-a)")


RULES = (
    _needs_archive("archive_json"),
    _needs_archive("archive_preview"),
    _needs_archive("archive_mask"),
    _needs_archive("archive_instances"),
    _needs_archive("delete_input"),
    _needs("archive_json", "remote_json"),
    _needs("archive_preview", "remote_preview"),
    _needs("archive_mask", "remote_mask"),
    _needs("remote_preview", "preview_dim"),
    _needs("local_preview", "preview_dim"),
    _needs("archive_preview", "preview_dim"),
    _needs("separate_preview_directory", "preview_dim"),
    _needs("force_fylke", "fylkesnummer"),
    _needs("write_exif_to_db", "table_name"),
)


@dataclass(frozen=True, slots=True)
class Effect:
    """When a key that the operator set does something; where it does not, a warning says so.

    Attributes:
        keys: those concerned.
        seen: whether they have an effect, with these values and whether the run writes a log file.
        otherwise: why they have none.
    """

    keys: tuple[str, ...]
    seen: Callable[[Config, bool], bool]
    otherwise: str


def _is_drawn(*kinds: str) -> Callable[[Config, bool], bool]:
    def seen(config: Config, _: bool) -> bool:
        return config.appearance.draw_mask and config.appearance.kind in kinds

    return seen


_WEAKEST_BLUR = 15
"""The default. Weaker ones differ from it for objects of a few pixels only: the safe minimum decides for all others."""

EFFECTS = (
    Effect(("mask_color", "mask_colors"), _is_drawn("color"), "only appearance: color shows it"),
    Effect(
        ("blur",),
        lambda c, _: not c.appearance.draw_mask or c.appearance.kind in ("blur", "mosaic") or c.appearance.blur is None,
        "only the appearances blur and mosaic use it",
    ),
    Effect(
        ("blur",),
        lambda c, _: (
            c.appearance.kind not in ("blur", "mosaic")
            or c.appearance.blur is None
            or c.appearance.blur >= _WEAKEST_BLUR
        ),
        f"so weak a blur would not hide anybody; objects look as with {_WEAKEST_BLUR}",
    ),
    Effect(("inpaint_radius",), _is_drawn("inpaint"), "only appearance: inpaint uses it"),
    Effect(
        ("gray_blur", "normalized_gray_blur"),
        _is_drawn("blur", "mosaic", "solid"),
        "only the appearances blur, mosaic and solid use it",
    ),
    Effect(
        ("outline_exponent",), lambda c, _: c.outlines.outline == "superellipse", "only outline: superellipse uses it"
    ),
    Effect(
        ("static_mask_resize", "static_mask_appearance", "static_mask_color", "static_mask_blur"),
        lambda c, _: c.static_mask.static_mask is not None,
        "there is no static_mask",
    ),
    Effect(
        ("cutout_step_factor", "cutout_dim_downscale", "cutout_overlap", "cutout_band"),
        lambda c, _: c.windows.use_cutouts,
        "use_cutouts is False",
    ),
    Effect(("targets",), lambda c, _: c.model.mask_classes is None, "mask_classes replaces it"),
    Effect(
        ("merge_min_overlap",), lambda c, _: c.merging.merging_method == "union", "only merging_method: union uses it"
    ),
    Effect(
        ("merge_iou_threshold", "area_method"),
        lambda c, _: c.merging.merging_method != "union",
        "merging_method: union does not use it",
    ),
    Effect(
        ("position_sidecar_clock_offset_seconds",),
        lambda c, _: c.record.position_sidecar is not None,
        "there is no position_sidecar",
    ),
    Effect(("table_primary_key",), lambda c, _: c.record.table_name is not None, "there is no table_name"),
    Effect(
        ("email_attach_log_file",),
        lambda c, logs: logs and c.email.any_enabled,
        "it needs a log folder (-l) and one of the e-mail keys",
    ),
)
