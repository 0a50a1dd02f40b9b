"""Which platform this process talks to, as whom and about which project."""
