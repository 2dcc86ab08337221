"""Finds the people and vehicles in images.

A network looks at images and gives boxes, scores, classes and perhaps masks; there is one file per kind of network.
The masker around it keeps the classes that are to be hidden and turns them into instances. Not here: drawing, metadata,
and where in the full image a window lies.
"""

from anonymise.masker.masker import Masker, ModelMasker, ModelOptions, load_masker
from anonymise.masker.network import Found, Network

__all__ = ["Found", "Masker", "ModelMasker", "ModelOptions", "Network", "load_masker"]
