"""Calls of a platform: its routes, and how they get there."""
