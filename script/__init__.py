"""The commands beside the main job: ``python -m script.NAME`` from the root of the checkout."""
