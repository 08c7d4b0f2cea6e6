"""One stage of a campaign per file: `run(state)` reads the outputs of earlier stages and writes its own."""
