"""Runs and their actions: what becomes of each, from the call to the end."""
