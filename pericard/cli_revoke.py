"""`pericard revoke …`: the commands about the list of certificates that were issued and taken back."""

from pathlib import Path
from typing import Annotated

import typer

from pericard.options import until_stopped

revoke_app = typer.Typer(
    name="revoke",
    help="The signed list of certificates that were issued, and of those taken back.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder with certificate.json and release/.")]
Listed = Annotated[Path, typer.Option("--list", metavar="FILE", help="The list; made where there is none.")]
Key = Annotated[Path, typer.Option("--key", metavar="PEM", help="Private key that signs.", exists=True)]
TrustFile = Annotated[
    Path | None, typer.Option("--trust", metavar="FILE", help="Public keys; those of DIR if not given.")
]
Days = Annotated[int, typer.Option(min=1, help="How long the list may be taken for the newest.")]


@revoke_app.command("enter")
def revoke_enter(folder: Folder, listed: Listed, key: Key, trust: TrustFile = None, days: Days = 30) -> int:
    """Enter the certificate of DIR into the list, so that readers can know that it was not taken back."""
    from pericard import revoke as command

    return until_stopped(lambda: command.enter(folder, listed, key=key, trust=trust, days=days))


@revoke_app.command("withdraw")
def revoke_withdraw(
    folder: Folder,
    listed: Listed,
    key: Key,
    reason: Annotated[
        str, typer.Option(help="new_attack, ledger_overspent, key_lost, wrong_data or audit_contradicts.")
    ],
    words: Annotated[str, typer.Option("--says", help="Why, in a sentence that everybody may read.")],
    trust: TrustFile = None,
    days: Days = 30,
) -> int:
    """Take the certificate of DIR back, for good."""
    from pericard import revoke as command

    return until_stopped(
        lambda: command.withdraw(folder, listed, key=key, trust=trust, days=days, reason=reason, words=words)
    )


@revoke_app.command("renew")
def revoke_renew(
    listed: Listed,
    key: Key,
    trust: Annotated[Path, typer.Option("--trust", metavar="FILE", help="Public keys.")],
    days: Days = 30,
) -> int:
    """Sign the list anew with nothing added, before it is out of date."""
    from pericard import revoke as command

    return until_stopped(lambda: command.renew(listed, key=key, trust=trust, days=days))


@revoke_app.command("sign")
def revoke_sign(listed: Listed, key: Key) -> int:
    """Add a site's signature to the list: as many sites as the trust file asks count as much as the coordinator."""
    from pericard import revoke as command

    return until_stopped(lambda: command.sign(listed, key=key))
