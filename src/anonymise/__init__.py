"""Finds people and vehicles in street images and 360° panoramas and hides them beyond recovery.

The package is used through its command line; see ``ARCHITECTURE.md`` for its parts. Importing it loads nothing.
"""
