"""Local mode: runs and apps in this process and its children, without a platform."""
