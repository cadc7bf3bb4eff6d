"""What the extras put on a disk: of docs/containers.md."""
