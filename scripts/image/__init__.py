"""What `make image`, `push`, `release`, `run-agent`, `scan` and `image-check` do."""
