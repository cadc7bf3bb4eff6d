"""Start-up of a CPU service: from the start of a process to its first sample, beside a build."""
