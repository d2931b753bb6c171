"""``%%ranks``: run a cell on every rank of a world."""

import traceback
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from .results import Results, printed
from .world import World


class CellSyntaxError(Exception):
    """A cell that is no Python, shown as IPython shows one: the line, a mark, and what is wrong.

    Not a SyntaxError itself: IPython would show our frames above it.
    """

    def __init__(self, error: SyntaxError) -> None:
        super().__init__(str(error))
        self.error = error

    def _render_traceback_(self) -> list[str]:
        _, *lines = traceback.format_exception_only(self.error)  # the first names a file of ours
        return [f"  Line {self.error.lineno} of the cell", *(line.rstrip("\n") for line in lines)]


@magics_class
class RanksMagics(Magics):
    """The magic, for ``%load_ext mpviz``."""

    @magic_arguments()
    @argument("world", nargs="?", default="world", help="the variable that holds the World")
    @argument("--only", default=None, help="run on these ranks alone: 0,2 or 4-7")
    @argument("--timeout", type=float, default=None, help="seconds")
    @argument("--record", action="store_true", help="keep the events in world.events")
    @cell_magic
    def ranks(self, line: str, cell: str) -> Results | None:
        """Run the cell on every rank. Variables live on; the last expression is the result."""
        assert self.shell is not None
        try:
            asked = parse_argstring(self.ranks, line)
            results = self._world(asked.world).cell(
                f"\n{cell}",  # the line of %%ranks is the first that the reader counts
                only=None if asked.only is None else rank_list(asked.only),
                timeout=asked.timeout,
                record=asked.record,
            )
        except SyntaxError as error:
            raise CellSyntaxError(error) from None
        except ValueError as error:  # an argument is; what a rank raises is a RanksError
            raise UsageError(str(error)) from None
        said = printed(results.output)
        if said:
            print(said)
        return None if results.all_none else results

    def _world(self, name: str) -> World:
        assert self.shell is not None
        world = self.shell.user_ns.get(name)
        if not isinstance(world, World):
            raise UsageError(
                f"%%ranks needs a World in the variable {name!r}; "
                f"say {name} = World(layout) first, or %%ranks other_name"
            )
        return world


def rank_list(text: str) -> list[int]:
    """Read a list of ranks as it is typed.

    >>> rank_list("0,2,4-7")
    [0, 2, 4, 5, 6, 7]
    """
    ranks: list[int] = []
    for part in text.strip("'\"").replace(",", " ").split():
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise UsageError(f"--only takes ranks such as 0,2 or 4-7, got {text!r}")
        ranks += range(int(first), int(last) + 1)
    return ranks


def load(shell: Any) -> None:
    """Give the shell the magic, once."""
    if "ranks" not in shell.magics_manager.magics["cell"]:
        shell.register_magics(RanksMagics)
