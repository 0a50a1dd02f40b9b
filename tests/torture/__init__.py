"""Runs of every kind while processes are killed at random; then the proof that nothing is lost: scripts/torture."""
