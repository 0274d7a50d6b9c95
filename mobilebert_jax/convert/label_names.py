"""Labels by their names: which row of one head is which row of another's.

Two parties number the same labels as they like: a checkpoint and the task that
begins with it, a teacher and its student, a saved model and the data that it is
scored on. They are joined by names here, in one way for all:

- the same names, case and Unicode form aside, in any order: rows follow them;
- generic names on one side (LABEL_0, LABEL_1, ...), as many as on the other:
  rows keep their places;
- anything else: they are labels of something else.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from mobilebert_jax.models.typing import Params

# The head with a row for each label.
HEAD = 'classifier'

# What transformers calls labels that nobody has named.
_GENERIC = re.compile(r'label_\d+')
# How many names a message shows.
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Match:
  """How the labels of one party are found among those of another.

  Attributes:
    kind: 'same' (equal names in one order), 'reordered' (equal names in
      another order), 'by_position' (generic names) or 'other'.
    order: for each wanted label the row that has it; () for 'other'.
  """

  kind: Literal['same', 'reordered', 'by_position', 'other']
  order: tuple[int, ...] = ()


def key(name: str) -> str:
  """Returns what a name is compared by: case, form and spaces around aside."""
  folded = unicodedata.normalize('NFD', name).casefold()
  return unicodedata.normalize('NFC', folded).strip()


def is_generic(names: Sequence[str]) -> bool:
  """Returns whether these names say no more than numbers do."""
  return all(_GENERIC.fullmatch(key(name)) for name in names)


def match(stored: Sequence[str], wanted: Sequence[str]) -> Match:
  """Finds wanted labels among stored ones.

  Args:
    stored: names in the order of the rows that are there.
    wanted: names in the order that rows shall have.
  """
  for told_by in (str, key):
    rows = {told_by(name): row for row, name in enumerate(stored)}
    keys = [told_by(name) for name in wanted]
    are_distinct = len(rows) == len(stored) and len({*keys}) == len(keys)
    if are_distinct and rows.keys() == {*keys}:
      order = tuple(rows[name] for name in keys)
      in_order = order == tuple(range(len(order)))
      return Match('same' if in_order else 'reordered', order)
  if len(stored) == len(wanted) and (is_generic(stored) or is_generic(wanted)):
    return Match('by_position', tuple(range(len(wanted))))
  return Match('other')


def describe(
  matched: Match, stored: Sequence[str], wanted: Sequence[str], where: str
) -> str | None:
  """Returns what a match means for a head, in a sentence; None: nothing.

  Args:
    matched: from `match`.
    stored: its first argument.
    wanted: its second one.
    where: where the stored head is from.
  """
  if matched.kind == 'same' and tuple(stored) != tuple(wanted):
    return (
      f'{where} writes the labels as {listed(stored)}; they are those that are '
      f'called {listed(wanted)} here.'
    )
  if matched.kind == 'reordered':
    return (
      f'{where} has the labels in the order {listed(stored)}; the rows of its '
      f'head are put into the order {listed(wanted)}.'
    )
  if matched.kind == 'by_position':
    return (
      f'the labels of {where} are taken by their places: {listed(stored)} for '
      f'{listed(wanted)}.'
    )
  if matched.kind == 'other':
    return (
      f'{difference(stored, wanted, where)}: the head is drawn anew, train it '
      'before use.'
    )
  return None


def difference(stored: Sequence[str], wanted: Sequence[str], where: str) -> str:
  """Returns that two parties have other labels, for the middle of a sentence.

  Args:
    stored: names of the one.
    wanted: names of the other.
    where: the first one.
  """
  return (
    f'{where} has the {len(stored)} labels {listed(stored)}, which are not the '
    f'{len(wanted)} that are wanted, {listed(wanted)}'
  )


def listed(names: Sequence[str]) -> str:
  """Returns the first of some names, for a message."""
  more = f', ... ({len(names)})' if len(names) > _SHOWN else ''
  return ', '.join(names[:_SHOWN]) + more


def with_order(params: Params, order: Sequence[int]) -> Params:
  """Returns parameters with the rows of the classifier in another order.

  Args:
    params: of a model with a classifier, whose last axis has one value for
      each label; arrays of NumPy or JAX.
    order: for each label the row that it is now; see `Match`.
  """
  head = params[HEAD]
  rows = {name: value[..., list(order)] for name, value in head.items()}
  return {**params, HEAD: rows}
