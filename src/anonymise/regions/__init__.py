"""Regions that other systems found: from their tables into corrections, and from ours into tables.

- `rows`: tables, in files and databases → rows with four corners each.
- `shapes`: four corners in the other system's frame → a shape in stored pixels.
- `pictures`: what the other system calls a picture → the image.
- `transfer`: rows → corrections, all or none.
- `exporting`: corrections and saved instances → rows.
"""
