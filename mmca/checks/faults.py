"""Counting what is wrong with many entries, and saying it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmca.errors import InputError, warn


@dataclass(frozen=True)
class Fault:
    """Something that entries of a file have wrong.

    Attributes:
        what: goes on with 'N of the M entries ...'.
        remedy: what to do about it, or what follows from it.
        fatal: whether training cannot go on; otherwise it is a warning.
        drops: whether such entries are left out, which must not happen to all.
    """

    what: str
    remedy: str
    fatal: bool = True
    drops: bool = False


class Faults:
    """How many entries have which fault, and which one is the first.

    Example:
        >>> NO_NAME = Fault('have no name', 'give them one', fatal=False)
        >>> faults = Faults()
        >>> faults.add(NO_NAME, 3)
        >>> faults.add(NO_NAME, 8)
        >>> faults.text(NO_NAME, 'dogs', 10, str)
        '2 of the 10 dogs have no name, the first is 3; give them one'
    """

    def __init__(self) -> None:
        self._found: dict[Fault, tuple[int, int]] = {}

    def add(self, fault: Fault, index: int) -> None:
        """Count a fault of the entry at an index."""
        count, first = self._found.get(fault, (0, index))
        self._found[fault] = count + 1, first

    def text(self, fault: Fault, noun: str, total: int, name: Callable[[int], str]) -> str:
        """Say in one line how many entries have a fault."""
        count, first = self._found[fault]
        return (
            f'{count} of the {total} {noun} {fault.what}, the first is {name(first)}; '
            f'{fault.remedy}'
        )

    def report(self, source: str, noun: str, total: int, name: Callable[[int], str]) -> None:
        """Warn of the faults that training survives, unless all entries are left out.

        Args:
            source: the file or the data set, for the messages.
            noun: what the entries are, in the plural.
            total: the number of entries.
            name: names the entry at an index.

        Raises:
            InputError: a fault is fatal, or leaves nothing.
        """
        for fault, (count, _) in self._found.items():
            if fault.fatal or (fault.drops and count == total):
                raise InputError(f'{source}: {self.text(fault, noun, total, name)}')
        for fault in self._found:
            warn(f'{source}: {self.text(fault, noun, total, name)}')
