"""What a pickle would cost, found by reading its program and not by running it.

A pickle keeps what it has made in a memo and may use it any number of times. So one megabyte could
ask for thousands of copies of itself, and two hundred bytes for a key of millions of parts, each of
which is hashed. Here the program is followed with a note of its size in the place of each object.
"""

import pickle
import pickletools
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from ziggurat.errors import ZigguratError

FACTOR = 8
"""Bytes that may be copied for each byte of the file. Weights take three: text becomes bytes, those
an array, and that one a tensor."""
ALLOWANCE = 1 << 20
"""Bytes beyond that, for small files: a few numbers take more as objects than in a file."""
SLOT = 8
"""Bytes of a place in a list or tuple."""
KEYED_SLOT = 64
"""Bytes of a place in a dictionary or set, about."""
DEEPEST = 100
"""Tuples inside each other; Python hashes them by recursion, without a limit of its own."""

GETS = ("GET", "BINGET", "LONG_BINGET")
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
MAKES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")
FILLS = ("LIST", "APPEND", "APPENDS")
KEYED_FILLS = {"DICT": 2, "SETITEM": 2, "SETITEMS": 2, "ADDITEMS": 1}
"""What fills a dictionary or a set, and after how many objects the next key comes."""
CONTENT = (str, bytes, bytearray)
LEAVES = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if not opcode.stack_before and opcode.stack_after and opcode.name not in ("MARK", *GETS)
)
CALLS = ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "BUILD", "BINPERSID")


class _Note:
    """Stands for an object.

    Args:
        size: Bytes that a copy of it takes.
        parts: Objects that are visited to hash it.
        depth: Tuples inside each other.
    """

    __slots__ = ("depth", "parts", "size")

    def __init__(self, size: int = 0, parts: int = 1, depth: int = 0) -> None:
        self.size, self.parts, self.depth = size, parts, depth


class _Machine:
    """Follows a program.

    Args:
        size: Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = FACTOR * size + ALLOWANCE
        self.stack: list[_Note] = []
        self.marks: list[int] = []
        self.memo: dict[int, _Note] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:  # noqa: ANN401
        """Do what an instruction does, with notes.

        Raises:
            UnpicklingError: If it cannot be done.
        """
        kind = opcode.name
        if kind in LEAVES:
            self.stack.append(_Note(len(argument) if isinstance(argument, CONTENT) else 0))
        elif kind == "MARK":
            self.marks.append(len(self.stack))
        elif kind == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        elif kind in GETS:
            if argument not in self.memo:
                raise pickle.UnpicklingError(f"memo slot {argument} is empty")
            self.stack.append(self.memo[argument])
        elif kind in PUTS or kind == "MEMOIZE":
            [note] = self._take(1)
            self.stack.append(note)
            self._keep(len(self.memo) if kind == "MEMOIZE" else argument, note)
        elif kind == "DUP":
            self.stack.extend(2 * self._take(1))
        else:
            self._change(opcode)

    def _change(self, opcode: pickletools.OpcodeInfo) -> None:
        """Take what an instruction takes from the stack, and put on it what it makes."""
        kind, before = opcode.name, opcode.stack_before
        target = None
        if pickletools.markobject in before:
            taken = self._take_to_mark()
            if before[0] is not pickletools.markobject:
                [target] = self._take(1)
        else:
            taken = self._take(len(before))
            if kind in ("APPEND", "SETITEM", "BUILD"):
                target = taken.pop(0)
        if kind in CALLS:
            self._pay(sum(note.size + note.parts for note in taken))
            target = target or _Note()
            target.size += sum(note.size for note in taken)
        elif kind in FILLS:
            target = target or _Note()
            target.size += sum(SLOT + note.parts for note in taken)
        elif kind in KEYED_FILLS:
            target = target or _Note()
            keys = taken[:: KEYED_FILLS[kind]]
            target.size += KEYED_SLOT * len(keys)
            self._pay(sum(note.parts for note in keys))
        elif kind in MAKES:
            target = self._tuple(taken)
            if kind == "FROZENSET":
                self._pay(target.parts)
        elif opcode.stack_after:
            target = _Note()
        if target is not None:
            self.stack.append(target)

    def _tuple(self, taken: Iterable[_Note]) -> _Note:
        """Return the note of what hashes its parts.

        Raises:
            _CostError: If they are nested too deeply, or are too many.
        """
        note = _Note(parts=1)
        for part in taken:
            note.size += SLOT + part.size
            note.parts += part.parts
            note.depth = max(note.depth, 1 + part.depth)
        if note.depth > DEEPEST:
            raise _CostError(f"it nests more than {DEEPEST} tuples")
        if note.parts > FACTOR * self.size + ALLOWANCE:
            raise _CostError(f"a tuple of {note.parts} parts is in its {self.size} bytes")
        return note

    def _pay(self, cost: int) -> None:
        """Count what is copied and hashed.

        Raises:
            _CostError: If it is more than the file may cost.
        """
        self.left -= cost
        if self.left < 0:
            raise _CostError(
                f"it copies and hashes what is in its {self.size} bytes again and again"
            )

    def _keep(self, slot: int, note: _Note) -> None:
        """Put a note into the memo.

        Raises:
            UnpicklingError: If a file of this size cannot need that slot. Python makes room for all
                slots below the number, so that seven bytes could ask for 16 GB.
        """
        if slot > self.size:
            raise pickle.UnpicklingError(f"memo slot {slot}")
        self.memo[slot] = note

    def _take(self, count: int) -> list[_Note]:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise pickle.UnpicklingError("it takes more than it has made")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _take_to_mark(self) -> list[_Note]:
        if not self.marks:
            raise pickle.UnpicklingError("it goes back to a mark that it has not made")
        return self._take(len(self.stack) - self.marks.pop())


class _CostError(Exception):
    """A program that no honest file has."""


def check_cost(program: bytes | IO[bytes], size: int, path: Path) -> None:
    """Refuse a pickle that takes many times its size, or that would not end.

    Args:
        program: The pickle; of a file one is read, to its end.
        size: Bytes of the program, or of the file that it is in.
        path: How the message calls the file.

    Raises:
        ZigguratError: If it costs too much.
    """
    machine = _Machine(size)
    try:
        for opcode, argument, _ in pickletools.genops(program):
            machine.step(opcode, argument)
    except _CostError as error:
        raise ZigguratError(
            f"{path} was refused and nothing in it was run: {error}, which no program that saves "
            "weights does; get a file with a plain state dict, from a source that you trust"
        ) from error
