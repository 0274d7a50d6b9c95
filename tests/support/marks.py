"""Marks for all but a few of a test's cases."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(kept: Collection, cases: Iterable) -> list:
  """The cases, for `parametrize`: those that are not kept are 'slow'."""
  return _but(kept, cases, pytest.mark.slow)


def long_but(kept: Collection, cases: Iterable) -> list:
  """The cases, for `parametrize`: those that are not kept are 'long'."""
  return _but(kept, cases, pytest.mark.long)


def _but(kept: Collection, cases: Iterable, mark: Any) -> list:
  cases = list(cases)
  # A name that is not there would leave nothing.
  assert kept and all(case in cases for case in kept), kept
  return [
    case if case in kept else pytest.param(case, marks=mark) for case in cases
  ]
