"""Where the program runs: offline, and among libraries that import without a warning."""

import importlib
import os
import socket

import pytest

import pericard

SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
}


@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_every_switch_that_keeps_a_library_from_phoning_home_is_set(name: str) -> None:
    assert os.environ[name] == SWITCHES[name] == pericard.OFFLINE[name]


def test_no_switch_is_missing_from_this_list() -> None:
    assert pericard.OFFLINE == SWITCHES


LIBRARIES = [
    "torch",
    "opacus",
    "monai",
    "flwr",
    "flwr.serverapp",
    "flwr.clientapp",
    "hydra",
    "dp_accounting.pld",
    "typer",
    "rich",
    "matplotlib",
    "pandas",
    "safetensors",
    "av",
    "jinja2",
    "cryptography",
    "scipy.stats",
]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_imports_without_a_warning(library: str) -> None:
    assert importlib.import_module(library).__name__ == library


def test_the_first_layer_may_be_hooked_by_opacus_without_failing_a_test() -> None:
    import torch
    from opacus.grad_sample import GradSampleModule

    module = GradSampleModule(torch.nn.Linear(2, 1), loss_reduction="sum")
    module(torch.ones(3, 2)).sum().backward()
    assert module.get_parameter("_module.weight").grad_sample.shape == (3, 1, 2)


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0)])
def test_a_test_without_network_cannot_connect_to_another_machine(
    no_network: list[object], address: tuple[object, ...]
) -> None:
    family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
    with socket.socket(family) as outside, pytest.raises(PermissionError, match="tried to reach"):
        outside.connect(address)
    assert no_network.pop() == address


def test_a_test_without_network_cannot_look_a_name_up(no_network: list[object]) -> None:
    with pytest.raises(PermissionError, match="tried to reach"):
        socket.getaddrinfo("telemetry.example", 443)
    no_network.clear()


def test_a_test_without_network_may_talk_to_itself(no_network: list[object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
    assert no_network == []
