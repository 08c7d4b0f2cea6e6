"""The in-process backend: the real apps behind an in-memory grid, with real serialisation and no other process.

Every message is deflated to Flower's wire format and inflated again, both ways, so nothing passes here that a network
would stop, and bytes can be counted (flower.md 2.4). Sites are served one after the other: torch's generator is shared
by threads, and order would decide the bits.
"""

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from server.progress import Progress, silent

FLOWER_EXCEPTION = 2
FIRST_NODE = 1000
Fault = Callable[[Message], str | None]


class InProcessGrid(Grid):
    """A `Grid` that calls the ClientApp of each node itself.

    Args:
        client_app: the sites' app.
        node_configs: per node, what its operator configured.
        run_id: number of the run.
        fault: for tests: says of a message "drop" (its reply is lost), "crash" (the node dies), or nothing.
        progress: told how far the campaign is.
        wiretap: for tests: shown the bytes of every message, and whether they go "down" to a site or "up".

    Attributes:
        bytes_down, bytes_up: what went to the sites and came from them.
    """

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: Sequence[Mapping[str, str]],
        *,
        run_id: int = 1,
        fault: Fault | None = None,
        progress: Progress = silent,
        wiretap: Callable[[str, bytes], None] | None = None,
    ) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, 1
        self._run = Run.create_empty(run_id=run_id)
        self._app, self._fault, self._wiretap = client_app, fault, wiretap
        self._contexts = {
            node: Context(run_id, node, dict(config), RecordDict(), {})
            for node, config in enumerate(node_configs, FIRST_NODE)
        }
        self._numbers = itertools.count(1)
        self._inbox: dict[str, Message] = {}
        self.progress = progress
        self.bytes_down = self.bytes_up = 0

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Create a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages, one after the other, and keep the replies."""
        sent = []
        for message in messages:
            number = f"m{next(self._numbers)}"
            message.metadata.__dict__["_message_id"] = number
            if (reply := self._deliver(message)) is not None:
                self._inbox[number] = reply
            sent.append(number)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that there are."""
        return [self._inbox.pop(i) for i in list(message_ids) if i in self._inbox]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages and return their replies; nothing here can be late."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message | None:
        fault = self._fault(message) if self._fault else None
        if fault == "drop":
            return None
        context = self._contexts[message.metadata.dst_node_id]
        received, size = self._wire(message, "down")
        self.bytes_down += size
        try:
            if fault == "crash":
                raise RuntimeError("injected")  # noqa: TRY301
            scratch = copy.deepcopy(context)
            reply = self._app(message=received, context=scratch)
            context.state = scratch.state
        except Exception as error:
            reply = Message(Error(FLOWER_EXCEPTION, f"{type(error)}:<'{error}'>"), reply_to=received)
        reply, size = self._wire(reply, "up")
        self.bytes_up += size
        return reply

    def _wire(self, message: Message, direction: str) -> tuple[Message, int]:
        """Return the message as it arrives at the other end, and its bytes on the wire."""
        contents = {key: part.deflate() for key, part in get_all_nested_objects(message).items()}
        if self._wiretap is not None:
            for part in contents.values():
                self._wiretap(direction, part)
        size = sum(map(len, contents.values()))
        arrived = inflate_object_from_contents(message.object_id, contents)
        if not isinstance(arrived, Message):
            raise TypeError(f"a message arrived as {type(arrived).__name__}")
        arrived.metadata.__dict__["_message_id"] = message.metadata.message_id
        return arrived, size


def run_in_process(
    server_app: ServerApp,
    client_app: ClientApp,
    campaign: str,
    sites: Sequence[Path],
    *,
    fault: Fault | None = None,
    progress: Progress = silent,
    wiretap: Callable[[str, bytes], None] | None = None,
) -> InProcessGrid:
    """Run the campaign (JSON) over the site folders in this process; raises what the campaign raises."""
    nodes = [{"site": str(folder)} for folder in sites]
    grid = InProcessGrid(client_app, nodes, fault=fault, progress=progress, wiretap=wiretap)
    server_app(grid, Context(grid.run.run_id, 1, {}, RecordDict(), {"campaign": campaign}))
    return grid
