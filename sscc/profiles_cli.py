"""Hardware profiles: ``sscc profiles``."""

from __future__ import annotations

from typing import Annotated

import typer

from sscc.options import Json
from sscc.output import print_json

profiles = typer.Typer(
    rich_markup_mode=None,
    help="""Hardware profiles: what radios can do, with a source for every number.

    \b
    Example:
      sscc profiles list
    """,
)


@profiles.command("list")
def profiles_list(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/hardware.md.")
    ] = False,
    json: Json = False,
) -> None:
    """Lists the bundled profiles.

    \b
    Example:
      sscc profiles list
    """
    from hw_profiles import load_profile, profile_names
    from sscc import hardware

    loaded = [load_profile(name) for name in profile_names()]
    if json:
        print_json({"profiles": [hardware.to_json(profile) for profile in loaded]})
    elif markdown:
        print(hardware.markdown(loaded))
    else:
        from rich.console import Console

        Console().print(hardware.table(loaded))


@profiles.command("show")
def profiles_show(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", show_default=False, help="Profile, or its file.")
    ],
    json: Json = False,
) -> None:
    """Shows all that a profile says, and where it has its numbers from.

    \b
    Example:
      sscc profiles show pluto
    """
    from hw_profiles import load_profile
    from sscc import hardware

    profile = load_profile(name)
    if json:
        print_json(hardware.to_json(profile))
    else:
        print("\n".join(hardware.description_lines(profile)))


@profiles.command("check")
def profiles_check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|FILE]...", show_default=False, help="Profiles; all bundled ones if none."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Checks profiles: every key known, with its unit, in its range, and with a source.

    The exit status is 1 if any of them is wrong; the reason is printed.

    \b
    Example:
      sscc profiles check my_radio.toml
    """
    from sscc import hardware

    results = hardware.checked(names or [])
    if json:
        print_json({"profiles": results})
    else:
        for result in results:
            print(f"{result['name']}: {'valid' if result['valid'] else result['reason']}")
    if not all(result["valid"] for result in results):
        raise typer.Exit(1)
