"""Flower's quickstart for PyTorch, as its users write it: FedAvg, a train and an evaluate message in every round.

The model has the arrays of our view classifier of width 8. What it learns from are random pictures, drawn anew in each
message, so that no time goes into reading them. This file imports nothing of ours: it is the whole bundle of a
deployment of it (`benchmarks.federation_deployed`), and runs in process and in simulation as it is.
"""

import json
import time
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

ROUNDS, STEPS, BATCH, SIZE, CLASSES = 6, 2, 8, 64, 4

client = ClientApp()
server = ServerApp()


def model() -> nn.Module:
    """Return the network."""
    layers: list[nn.Module] = []
    for inner, outer, groups in ((1, 8, 1), (8, 16, 2), (16, 32, 4), (32, 32, 4)):
        layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GroupNorm(groups, outer), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, CLASSES))


def _batch() -> tuple[Tensor, Tensor]:
    return torch.rand(BATCH, 1, SIZE, SIZE), torch.randint(CLASSES, (BATCH,))


def learn(net: nn.Module) -> float:
    """Take the local steps of a round."""
    optimiser, loss = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9), torch.zeros(())
    for _ in range(STEPS):
        pixels, labels = _batch()
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(pixels), labels)
        loss.backward()
        optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def test(net: nn.Module) -> float:
    """Return the accuracy on a batch."""
    pixels, labels = _batch()
    return float((net(pixels).argmax(1) == labels).float().mean())


@client.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model, and send it back."""
    net = model()
    net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    metrics = MetricRecord({"train_loss": learn(net), "num-examples": BATCH})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the received model."""
    net = model()
    net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    metrics = MetricRecord({"accuracy": test(net), "num-examples": BATCH})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Average for some rounds, and write down when that began and ended."""
    begun = time.time()
    strategy = FedAvg(min_available_nodes=int(context.run_config["sites"]))
    strategy.start(grid=grid, initial_arrays=ArrayRecord(model().state_dict()), num_rounds=ROUNDS)
    Path(str(context.run_config["out"])).write_text(json.dumps([begun, time.time()]), encoding="utf-8")
