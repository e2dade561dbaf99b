"""Help texts whose options stand in groups."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class GroupedOptions(TyperCommand):
    """A command whose help lists its options under the headings of their ``rich_help_panel``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options, those without a heading first."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        arguments = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                arguments.append(record)
            else:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                groups.setdefault(panel, []).append(record)
        for heading, records in {"Arguments": arguments, **groups}.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
