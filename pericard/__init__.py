"""The command line: one file per command. Nothing here phones home: every switch is set before a library is loaded."""

import os

OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
}
for _name, _value in OFFLINE.items():
    os.environ.setdefault(_name, _value)
