"""Speed, memory and settings, measured: each module is one command, `python -m benchmarks.NAME`."""
