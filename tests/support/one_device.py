"""Whole runs on one of the eight devices that the tests have."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax

from mobilebert_jax.training import mesh

_make_mesh = mesh.make_mesh


@contextlib.contextmanager
def used() -> Iterator[None]:
  """A run inside the block has a mesh of one device.

  Its programs compile in a fraction of the time; runs on many devices are for
  the tests of the loop.
  """
  with mock.patch.object(mesh, 'make_mesh', _of_one):
    yield


def _of_one(data: int = -1, fsdp: int = 1, tensor: int = 1, devices=None):
  assert (data, fsdp, tensor, devices) == (-1, 1, 1, None)
  return _make_mesh(devices=jax.devices()[:1])
