"""Defaults of parameters that a docstring describes together, for the pages of the API.

Of ``restarts, iterations : int`` griffe gives all the default of the first.
"""

from __future__ import annotations

from typing import Any

from griffe import Class, DocstringSectionKind, Extension, Function, Module


class OwnDefaults(Extension):
    """Gives each described parameter the default that the function states for it."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Correct the docstrings of a package."""
        _correct(pkg)


def _correct(owner: Module | Class) -> None:
    for member in owner.members.values():
        if isinstance(member, Module | Class):
            _correct(member)
        elif isinstance(member, Function) and member.docstring:
            for section in member.docstring.parsed:
                if section.kind is DocstringSectionKind.parameters:
                    for described in section.value:
                        if described.name in member.parameters:
                            described.value = member.parameters[described.name].default
