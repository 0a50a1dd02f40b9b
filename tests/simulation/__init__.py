"""The real control plane in one seeded loop with virtual time, beside its specification (docs/specification.py)."""
