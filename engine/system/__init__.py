"""The machine and the process: processor and memory, threads, forks, caches, telemetry."""
