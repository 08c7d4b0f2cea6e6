"""Flower's SuperNode as a hospital needs it: what `FLWR_HOME/bin/flower-supernode` calls.

A SuperNode whose coordinator answers once with an error of its own (HTTP 500, from a database that was locked) leaves
its loop and says good-bye, but its process stays for ever, since another thread serves its runtime interface. Whoever
watches the process sees nothing wrong, and the hospital is gone. Ended, it is started again within seconds.

The thread that says every half minute that it lives ends at such an error, too, and only it: the node takes no harm but
is offline for whoever coordinates, for ever. So any thread that dies of an error ends the process.

It ends when its main thread does, and it tries again where Flower's would take a break of the line for a wrong
certificate. A proxy whose other side is down takes a call and hangs up, or says nothing, in the middle of the
handshake; for Flower that is an error of TLS, after which it drops the answer that it was sending. A certificate that
is wrong stays one.

An answer goes in parts, each named by its digest, and a SuperLink takes each once. Where the line breaks between a part
and its receipt, the same part is sent again and refused, and Flower drops all of the answer. Here a part that was sent
again and is not wanted any more has arrived; if the SuperLink forgot the answer meanwhile, it refuses the next part.

A SuperNode waits for an answer for as long as it takes, and takes no other message meanwhile. A ClientApp that dies
after it came for its task and before it has its message, or between the head of its answer and the last part, leaves
one that never comes (Flower answers for those that die in between). So where no ClientApp works or is to come, and the
answer is not here whole, the process ends, too.

A SuperNode that is taking a message when the campaign it is of is over, as after the death of a SuperLink, lets the
message be, but not the task that it has already made of it. Whatever a ClientApp makes of that is then sent in the
place of the next answer, and the next in the place of the one after it: the node is online, works, and answers nothing
in time any more. Here what was let be leaves nothing, and an answer is waited for until the message that came last has
its own.

Run by its path with `python -P`, as `client.only_reviewed` is: `ending.py NAME-OF-THE-PROGRAM ARGUMENTS…`.
"""

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

SUPERNODE, MAKER, PUSHER = "flower-supernode", "make_simple_http_retry_invoker", "make_push_object_fn_protobuf"
TAKER, WAITER = "_pull_and_store_message", "_push_messages"
LOOK_SECONDS, LOOKS = 5.0, 2  # in vain so many times before it ends
BROKEN = ("EOF occurred in violation of protocol", "timed out")  # OpenSSL's words for a line that broke, or is silent
LINE = threading.local()  # its `broke`: since this thread began to send a part


def patient(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return, of Flower's maker of those who try again, one whose do so also where a line broke in the handshake."""

    def made() -> Any:
        trying = make()
        gives_up = trying.should_giveup

        def final(error: Exception) -> Any:
            LINE.broke = True
            return not any(words in str(error) for words in BROKEN) and gives_up(error)

        trying.should_giveup = final
        return trying

    return made


def arrived(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return, of Flower's maker of what sends a part, one whose part may be refused once the line broke under it."""
    from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

    def made(*words: Any) -> Callable[[str, bytes], None]:
        push = make(*words)

        def pushed(name: str, content: bytes) -> None:
            LINE.broke = False
            try:
                push(name, content)
            except ObjectPushError:
                if not LINE.broke:
                    raise

        return pushed

    return made


def in_vain(state: Any, store: Any) -> bool:
    """Say whether an answer is waited for that nobody works on: of `state`, a node's, whose parts lie in `store`."""
    from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
    from flwr.supercore.object_store import NoObjectInStoreError

    if open_tasks(state):
        return False
    answers = [told.message_id for told in held(state) if told.reply_to_message_id]
    with contextlib.suppress(NoObjectInStoreError):  # it was sent meanwhile
        parts = [part.object_id for name in answers for part in iterate_object_tree(store.get_object_tree(name))]
        return not answers or any(store.get(part) == b"" for part in parts)
    return False


def open_tasks(state: Any, **of: Any) -> Any:
    """Return the tasks of a node's `state` that are not over."""
    from flwr.common.constant import Status

    return state.get_tasks(statuses=[Status.PENDING, Status.STARTING, Status.RUNNING], **of)


def held(state: Any) -> list[Any]:
    """Return what is said of the messages in a node's `state`, and of the answers to them."""
    with state.lock_msg_store:
        return [entry.message.metadata for entry in state.msg_store.values()]


def unanswered(state: Any) -> list[Any]:
    """Return what is said of the messages in a node's `state` that no answer was sent to."""
    return [told for told in held(state) if not told.reply_to_message_id]


def forgetting(take: Callable[..., Any]) -> Callable[..., Any]:
    """Return, of what takes a message, one that leaves nothing of a message that it let be."""
    from flwr.common.constant import SubStatus

    def takes(*, state: Any, object_store: Any, **named: Any) -> Any:
        run = take(state=state, object_store=object_store, **named)
        if run is None:  # there is one message at a time, so what is here now is none that anybody waits for
            for told in unanswered(state):
                for task in open_tasks(state, run_ids=[told.run_id]):
                    state.finish_task(task.task_id, SubStatus.STOPPED, "its message was let be")  # and its token ends
                state.delete_messages(message_ids=[told.message_id])
                object_store.delete(told.message_id)
        return run

    return takes


def watched(wait: Callable[..., None], end: Callable[[int], object] = os._exit) -> Callable[..., None]:
    """Return, of what waits for an answer and sends it, one that calls `end` where no answer will come.

    It waits and sends until no message is without its answer.
    """

    def waits(state: Any, object_store: Any, *words: Any, **named: Any) -> None:
        done = threading.Event()

        def watch() -> None:
            looks = 0
            while looks < LOOKS:
                if done.wait(LOOK_SECONDS):
                    return
                looks = looks + 1 if in_vain(state, object_store) else 0
            sys.stderr.write("a ClientApp died and left no answer: this SuperNode begins anew\n")
            sys.stderr.flush()
            end(1)

        threading.Thread(target=watch, daemon=True).start()
        try:
            wait(state, object_store, *words, **named)
            while unanswered(state):  # what was sent answered another message
                wait(state, object_store, *words, **named)
        finally:
            done.set()

    return waits


def _end(died: threading.ExceptHookArgs) -> None:
    if died.exc_type is SystemExit:  # a thread that wants to be over
        return
    traceback.print_exception(died.exc_value)
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    """Run the program that the first argument names, then end this process, whatever its other threads do."""
    threading.excepthook = _end
    del sys.argv[0]
    (program,) = entry_points(group="console_scripts", name=sys.argv[0])
    if sys.argv[0] == SUPERNODE:
        from flwr.supernode import fleet_http_connection as line
        from flwr.supernode import start_client_internal as loop

        vars(loop)[TAKER], vars(loop)[WAITER] = forgetting(vars(loop)[TAKER]), watched(vars(loop)[WAITER])
        vars(line)[MAKER], vars(line)[PUSHER] = patient(vars(line)[MAKER]), arrived(vars(line)[PUSHER])
    try:
        program.load()()
    except Exception:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
