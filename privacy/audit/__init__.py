"""The audit of ourselves: canaries that ride along in every private training, and what their scores prove."""
