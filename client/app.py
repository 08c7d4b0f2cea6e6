"""The Flower ClientApp: one handler per request, all behind the boundary. Heavy imports wait for who needs them."""

from collections.abc import Callable
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client import admission
from client.boundary import guard
from client.site import Site, find
from learning import messages
from learning.messages import REQUESTS, Code, Refusal
from learning.schema import Malformed


class GuardedApp(ClientApp):
    """A ClientApp whose guard stands before the routing, so that an unknown message type meets it, too."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Serve one message."""
        return guard(message, context, super().__call__)


app = GuardedApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say who this site is."""
    return _serve(message, context, admission.greet)


@app.query("reserve")
def reserve(message: Message, context: Context) -> Message:
    """Admit and charge a run."""
    return _serve(message, context, admission.reserve)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on members."""
    from client import training

    return _serve(message, context, training.train)


@app.query("keys")
def keys(message: Message, context: Context) -> Message:
    """Offer keys for one sum."""
    from client import masking

    return _serve(message, context, masking.offer)


@app.query("shares")
def shares(message: Message, context: Context) -> Message:
    """Seal shares of the secrets of that sum to the other sites."""
    from client import masking

    return _serve(message, context, masking.share)


@app.train("masked")
def train_masked(message: Message, context: Context) -> Message:
    """Train on members, and answer under masks."""
    from client import masking

    return _serve(message, context, masking.mask)


@app.query("unmask")
def unmask(message: Message, context: Context) -> Message:
    """Open that sum, once."""
    from client import masking

    return _serve(message, context, masking.unmask)


@app.query("measure")
def measure(message: Message, context: Context) -> Message:
    """Say where members' hearts lie, in noised moments."""
    from client import shapes

    return _serve(message, context, shapes.measure)


@app.query("guess")
def guess(message: Message, context: Context) -> Message:
    """Say what the canaries of a private training prove."""
    from client import training

    return _serve(message, context, training.guess)


@app.evaluate()
def score(message: Message, context: Context) -> Message:
    """Score models on test subjects."""
    from client import assessment

    return _serve(message, context, assessment.score)


@app.query("attack")
def attack(message: Message, context: Context) -> Message:
    """Attack a release with members and controls."""
    from client import assessment

    return _serve(message, context, assessment.attack)


@app.query("screen")
def screen(message: Message, context: Context) -> Message:
    """Screen candidates against members."""
    from client import screening

    return _serve(message, context, screening.screen)


@app.query("sign")
def sign(message: Message, context: Context) -> Message:
    """Countersign a certificate."""
    from client import countersign

    return _serve(message, context, countersign.countersign)


def _serve(message: Message, context: Context, answer: Callable[[Site, Any], object]) -> Message:
    site = find(context.node_config)
    try:
        request = messages.decode(message.content, REQUESTS[message.metadata.message_type])
    except Malformed as error:
        raise Refusal(Code.UNREADABLE, str(error)) from error
    return Message(messages.encode(answer(site, request)), reply_to=message)
