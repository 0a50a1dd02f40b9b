"""What is measured, and how: `scripts/bench [NAME …]`."""
