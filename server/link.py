"""The coordinator's SuperLink: Flower's own, behind two listeners of which the sites can reach one.

Flower serves three interfaces on one port, and two of them ask nobody who he is: whoever reaches that port can start a
run, which is code on every site, or take the coordinator's own task and see every update (flower.md 4.4). So the whole
application listens on loopback only, and what faces the sites is `FleetOnly`: TLS, and no path but `/v1/fleet/`, whose
callers Flower knows by their registered keys.

Run as a program by `server.fleet`: `python -m server.link HOST:PORT CERTIFICATE KEY <arguments of flower-superlink>`,
where certificate and key are those that sites see.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
FLEET = "/v1/fleet/"
GRACE_SECONDS = 3


class FleetOnly:
    """An ASGI application that passes on what goes to the fleet interface, and knows nothing of any other."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every path outside `FLEET`, and every path that is not plainly written, is 404."""
        if scope["type"] == "http" and plain(scope["path"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})


def plain(path: str) -> bool:
    """Say whether `path` lies below `FLEET` however it is read: no dots, no doubled slash, no backslash, no escape."""
    below = path.startswith(FLEET)
    return below and path.isascii() and not any(odd in path for odd in ("..", "//", "\\", "%", "/./"))


def main(arguments: list[str]) -> None:
    """Serve both listeners until a signal ends this process."""
    import uvicorn
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan, _parse_superlink_lifespan_config
    from flwr.superlink.main import create_app

    if len(arguments) < 3 or any(a.startswith("--") for a in arguments[:3]):
        raise SystemExit("usage: python -m server.link HOST:PORT CERTIFICATE KEY <arguments of flower-superlink>")
    host, _, port = arguments[0].rpartition(":")
    sys.argv = ["flower-superlink", *arguments[3:]]
    config = _parse_superlink_lifespan_config()
    if config.host not in {"127.0.0.1", "::1"} or not config.enable_supernode_auth:
        raise SystemExit("the whole SuperLink listens on loopback only, and its nodes must be authenticated")
    app = create_app(config, SuperLinkLifespan)
    common: dict[str, Any] = {"access_log": False, "log_level": "warning", "timeout_graceful_shutdown": GRACE_SECONDS}
    inner = uvicorn.Config(
        app, host=config.host, port=config.port, ssl_certfile=config.ssl_certfile, ssl_keyfile=config.ssl_keyfile,
        **common,
    )  # fmt: skip
    outer = uvicorn.Config(
        FleetOnly(app), host=host.strip("[]"), port=int(port), ssl_certfile=arguments[1], ssl_keyfile=arguments[2],
        lifespan="off", server_header=False, **common,
    )  # fmt: skip

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield  # two servers in one process cannot each catch the signals

    async def serve() -> None:
        servers = [Server(inner), Server(outer)]

        def stop() -> None:
            for server in servers:
                server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        tasks = [asyncio.create_task(server.serve()) for server in servers]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        stop()
        await asyncio.gather(*tasks)

    asyncio.run(serve())


if __name__ == "__main__":
    main(sys.argv[1:])
