"""What the torture runs on the platform; it is copied into the platform's own place and deployed from there."""
