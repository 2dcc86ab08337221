"""Which models run, and which classes are hidden: what the operator names, and what that needs besides.

Fail closed: a class that is to be hidden and that no model would find gets a model that does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anonymise.core.classes import COCO, LABELS
from anonymise.core.errors import ModelError
from anonymise.core.plaintext import did_you_mean
from anonymise.core.resources import CATALOG, default_model_folder
from anonymise.models.catalog import DetectorModel, Model, load_catalog
from anonymise.models.options import ModelOptions
from anonymise.models.origin import origin_of, sha256

__all__ = ["Chosen", "Selection", "model_folder", "models_of_catalog", "select"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model that is to run.

    Attributes:
        name: in the catalog, or the folder of a SavedModel.
        entry: in the catalog; None for a folder of the operator's own.
        folder: where it is, or will be once it is fetched.
    """

    name: str
    entry: Model | None
    folder: Path

    @property
    def detector(self) -> DetectorModel | None:
        """The entry of a detector; None for SavedModels."""
        return self.entry if isinstance(self.entry, DetectorModel) else None

    @property
    def labels(self) -> frozenset[int]:
        """The class ids that it finds."""
        return frozenset(COCO) if self.entry is None else self.entry.labels

    @property
    def identity(self) -> str | None:
        """A text that is another for a model that may find something else; None while it is not fetched.

        Of fetched models it is made of their checksums and of what the catalog says about their inputs and outputs, of
        others of the contents of their files.

        Raises:
            ModelError: a file of the operator's own model cannot be read.
        """
        if self.entry is None:
            try:
                files = sorted(path for path in self.folder.rglob("*") if path.is_file())
                return "\n".join(f"{path.relative_to(self.folder).as_posix()} {sha256(path)}" for path in files)
            except OSError as error:
                raise ModelError(f"The model in {self.folder} cannot be read: {error}") from error
        origin = origin_of(self.folder)
        if origin is None:
            return None
        entry = self.entry.model_dump(mode="json", exclude={"summary", "licence", "sources", "files", "self_test"})
        return json.dumps([dict(origin.sha256), entry])


@dataclass(frozen=True, slots=True)
class Selection:
    """What runs.

    Attributes:
        models: each sees every image; those that the operator names come first.
        parts: each sees close-ups of what those found.
        verifier: sees close-ups of what those are not sure of; None where nothing is verified.
        hidden: class ids that are hidden.
        sought: class ids that ``models`` are to find: those that are hidden, but for parts, and what has such parts.
        warnings: what the operator should know.
    """

    models: tuple[Chosen, ...]
    parts: tuple[Chosen, ...]
    verifier: Chosen | None
    hidden: frozenset[int]
    sought: frozenset[int]
    warnings: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Chosen, ...]:
        """All that run, each once."""
        verifier = () if self.verifier is None else (self.verifier,)
        return tuple({model.name: model for model in (*self.models, *self.parts, *verifier)}.values())

    @property
    def identity(self) -> str | None:
        """A text that changes with the models, what they do, and the classes; None while a model is not fetched."""
        verifier = () if self.verifier is None else (self.verifier,)
        identities = [[model.identity for model in role] for role in (self.models, self.parts, verifier)]
        return None if any(None in role for role in identities) else json.dumps([identities, sorted(self.hidden)])


def model_folder(options: ModelOptions) -> Path:
    """The folder that holds the fetched models."""
    return Path(options.model_folder) if options.model_folder else default_model_folder()


def models_of_catalog(folder: Path) -> Mapping[str, Model]:
    """The catalog that comes with the program, and that of the operator: ``catalog.yml`` in the folder for models.

    Raises:
        ModelError: a catalog cannot be used.
    """
    own = folder / CATALOG.name
    models = load_catalog(CATALOG)
    return {**models, **load_catalog(own)} if own.is_file() and not own.samefile(CATALOG) else models


def select(options: ModelOptions) -> Selection:
    """Chooses the models.

    The first model of the catalog that finds it is added for a class that none of the named models finds; one that is
    fetched already is preferred. Models that find nothing of what is to be hidden do not run.

    Raises:
        ModelError: a model does not exist, or no model finds what is to be hidden.
    """
    folder = model_folder(options)
    catalog = models_of_catalog(folder)
    named = [*options.models, *([] if options.verify_with is None else [options.verify_with])]
    if unknown := [name for name in named if name not in catalog and not _is_folder(name)]:
        raise ModelError(" ".join(_unknown(name, catalog) for name in dict.fromkeys(unknown)))
    chosen = [
        Chosen(name, catalog[name], folder / name) if name in catalog else Chosen(name, None, Path(name))
        for name in named
    ]
    models, verifiers = chosen[: len(options.models)], chosen[len(options.models) :]
    hidden, wholes = options.hidden, options.wholes
    sought = frozenset(hidden - wholes.keys()).union(*wholes.values())
    while missing := sorted((hidden | sought).difference(*(model.labels for model in models))):
        finders = [Chosen(key, entry, folder / key) for key, entry in catalog.items() if missing[0] in entry.labels]
        if not finders:
            raise ModelError(
                f"No model of the catalog finds the class {LABELS[missing[0]]}; name one that does as a model_type."
            )
        models.append(next((finder for finder in finders if origin_of(finder.folder)), finders[0]))
    running = [model for model in models if model.labels & (sought | hidden)]
    others = ", ".join(model.name for model in running)
    return Selection(
        models=tuple(model for model in models if model.labels & sought),
        parts=tuple(model for model in models if model.labels & wholes.keys()),
        verifier=verifiers[0] if verifiers else None,
        hidden=hidden,
        sought=sought,
        warnings=tuple(
            f"The model {model.name} finds nothing of what is to be hidden. It does not run; {others} does."
            for model in models
            if model not in running
        ),
    )


def _is_folder(name: str) -> bool:
    """Whether it is a folder wherever the program is started; the configuration makes relative paths absolute."""
    return Path(name).is_absolute() and Path(name).is_dir()


def _unknown(name: str, catalog: Mapping[str, Model]) -> str:
    text = (
        f"model_type {name!r} is neither a model of the catalog ({', '.join(catalog)}) nor the folder of a SavedModel"
    )
    if Path(name).is_dir():
        return f"{text}; a folder is written with a slash: ./{name}."
    return text + (did_you_mean(name, catalog) or ".")
