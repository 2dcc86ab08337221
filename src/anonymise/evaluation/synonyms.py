"""Class names of annotations and findings."""

from collections.abc import Mapping

from anonymise.core.classes import label_of

__all__ = ["found_as"]


def found_as(category: str, synonyms: Mapping[str, str | None]) -> int | None:
    """The class id that the model finds a class of the ground truth as; None for one that is left out.

    Args:
        category: its name there, in upper or lower case.
        synonyms: ``evaluation_class_synonyms`` of the configuration.

    Raises:
        KeyError: nothing says what it is.
    """
    name = category.strip().lower()
    meant = synonyms.get(name, name)
    return None if meant is None else label_of(meant)
