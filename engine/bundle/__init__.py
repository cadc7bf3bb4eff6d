"""The bundle on disk: manifest, reader, writer, compiled kernels."""
