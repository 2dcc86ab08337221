"""Finds the people and vehicles in images.

A network looks at images and gives boxes, scores, classes and perhaps masks; there is one file per kind of network.
The masker around it keeps the classes that are to be hidden and turns them into instances. Not here: drawing, metadata,
and where in the full image a window lies.
"""

from anonymise.models.masker import CloseMasker, Masker, ModelMasker, load_masker, model_identity
from anonymise.models.network import Found, Network
from anonymise.models.options import ModelOptions

__all__ = ["CloseMasker", "Found", "Masker", "ModelMasker", "ModelOptions", "Network", "load_masker", "model_identity"]
