"""The coordinator, which never sees a real study: the Flower ServerApp, the campaign."""
