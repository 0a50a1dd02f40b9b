"""Runs of every kind while processes are killed at random; then the proof that nothing was lost. See scripts/torture."""
