"""The configuration as one value, and the fingerprints of what depends on it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from anonymise.config.cluster import ClusterOptions
from anonymise.config.files import FileKind, FileOptions
from anonymise.config.reports import ReportOptions
from anonymise.config.sections import (
    DatabaseOptions,
    EmailOptions,
    EvaluationOptions,
    LogOptions,
    PreviewOptions,
    ReviewOptions,
    RunOptions,
    StorageOptions,
)
from anonymise.config.service import ServiceOptions
from anonymise.core import yamlfile
from anonymise.core.projection import ProjectionKind
from anonymise.core.section import Section
from anonymise.detection.merging import MergeOptions
from anonymise.detection.outlines import OutlineOptions
from anonymise.detection.processor import DetectionOptions
from anonymise.detection.tiles import WindowOptions
from anonymise.detection.views import ViewOptions
from anonymise.images import ImageOptions
from anonymise.metadata.record import RecordOptions
from anonymise.models import ModelOptions
from anonymise.redaction import Appearance, StaticMaskOptions

__all__ = ["KEYS", "SECTIONS", "Config"]


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration.

    Attributes:
        changed: day of the last change of the operator's configuration file, or of the defaults where there is none.
        warnings: what the operator set that nobody will see.
    """

    files: FileOptions
    storage: StorageOptions
    images: ImageOptions
    model: ModelOptions
    windows: WindowOptions
    views: ViewOptions
    merging: MergeOptions
    outlines: OutlineOptions
    appearance: Appearance
    static_mask: StaticMaskOptions
    preview: PreviewOptions
    record: RecordOptions
    run: RunOptions
    log: LogOptions
    email: EmailOptions
    database: DatabaseOptions
    evaluation: EvaluationOptions
    cluster: ClusterOptions
    review: ReviewOptions
    service: ServiceOptions
    reports: ReportOptions
    changed: date
    warnings: tuple[str, ...] = ()

    @property
    def detection(self) -> DetectionOptions:
        """The sections that say what is found and where it is looked for."""
        by_gpano = self.projection == "auto"
        return DetectionOptions(
            self.model, self.windows, self.views, self.merging, self.outlines, always_whole=by_gpano
        )

    @property
    def projection(self) -> ProjectionKind:
        """What is known of the projection of all images: the key, or for ``auto``, what ``image_type`` says."""
        if self.images.projection == "auto" and self.record.image_type == "360":
            return "equirectangular"
        return self.images.projection

    @property
    def seconds_per_image(self) -> float | None:
        """Seconds after which a process that works on one image is ended; None is never.

        The time for which it may wait for a share comes on top: that is not the image's fault.
        """
        limit = self.run.max_image_seconds
        return None if limit is None else limit + self.storage.file_access_timeout_seconds

    def as_yaml(self) -> str:
        """All keys with their values, as a configuration file that gives the same configuration."""
        return yamlfile.dump(self._values(), sort_keys=True)

    def settings_fingerprint(self, static_mask: str | None, position_sidecar: str | None = None) -> str:
        """A short text that changes when these settings would make other files of the same detections.

        Args:
            static_mask: fingerprint of the content of the file that ``static_mask`` names; None where there is none.
            position_sidecar: the same for ``position_sidecar``.
        """
        files = self.files
        left_out = _WITHOUT_EFFECT_ON_RESULTS | _OF_DETECTION | {"static_mask", "position_sidecar"}
        if static_mask is None:
            left_out |= StaticMaskOptions.model_fields.keys()
        has_preview = files.wants_any(FileKind.PREVIEW)
        if not has_preview:
            left_out |= PreviewOptions.model_fields.keys()
        has_record = files.wants_any(FileKind.JSON)
        if not has_record:
            left_out |= RecordOptions.model_fields.keys() | {"force_older_exif"}
        if not has_record or position_sidecar is None:
            left_out |= {"position_sidecar_clock_offset_seconds"}
        values = {key: value for key, value in self._values().items() if key not in left_out}
        values["projection"] = self.projection
        # A record names its preview.
        contents: list[bool | str | None] = [has_record and has_preview, static_mask]
        if has_record and position_sidecar is not None:
            contents.append(position_sidecar)
        return _digest(values, contents)

    def model_fingerprint(self, identity: str) -> str:
        """A short text that changes when these settings or the models would detect something else.

        Args:
            identity: a text that changes with the models and what they look for.
        """
        keys = _OF_DETECTION - _WITHOUT_EFFECT_ON_RESULTS
        values = {key: value for key, value in self._values().items() if key in keys}
        return "model:" + _digest(values | {"projection": self.projection}, identity)

    def _values(self) -> dict[str, Any]:
        return {key: value for name in SECTIONS for key, value in getattr(self, name).model_dump(mode="json").items()}


SECTIONS: Mapping[str, type[Section]] = {
    field.name: field.type
    for field in fields(Config)
    if isinstance(field.type, type) and field.name not in ("changed", "warnings")
}
KEYS = tuple(key for section in SECTIONS.values() for key in section.model_fields)


_WITHOUT_EFFECT_ON_RESULTS = frozenset(
    {
        *StorageOptions.model_fields,
        *LogOptions.model_fields,
        *EmailOptions.model_fields,
        *DatabaseOptions.model_fields,
        *EvaluationOptions.model_fields,
        *ClusterOptions.model_fields,
        *ReviewOptions.model_fields,
        *ServiceOptions.model_fields,
        *ReportOptions.model_fields,
        *(
            "force_remask",
            "lazy_paths",
            "enable_async",
            "max_num_async_workers",
            "image_memory_megabytes",
            "max_failures_in_a_row",
            "max_image_seconds",
            "corrections",  # part of the fingerprint of each image that has any
        ),
        *("copy_originals_to_error_folder", "image_extensions", "max_decoded_pixels"),
        *("model_folder", "batch_size", "runtime", "model_threads"),
        # The identity of the models and the classes covers what these name.
        *("model_type", "targets", "mask_classes"),
        # What is wanted besides: files that are missing are written whatever the journal says.
        *(key for key in FileOptions.model_fields if key.startswith(("remote_", "local_", "archive_"))),
        *("separate_preview_directory", "colmap_mask_directory"),
        # Only the database sees these.
        *("flip_wkt", "table_name", "table_primary_key"),
    }
)
"""Keys whose change does not make finished images stale."""

_OF_DETECTION = frozenset(
    {
        *ModelOptions.model_fields,
        *WindowOptions.model_fields,
        *ViewOptions.model_fields,
        *MergeOptions.model_fields,
        *OutlineOptions.model_fields,
    }
)
"""Keys that say what is detected; saved instances hold the result."""


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
