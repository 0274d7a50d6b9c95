"""Preparing data sets by TFDS's own builders, from files instead of a URL."""

import contextlib
import os
from collections.abc import Iterator
from unittest import mock

import pytest

from mobilebert_jax.data.readers import tfds as readers_tfds


@contextlib.contextmanager
def replaced(folder: str | os.PathLike[str]) -> Iterator[None]:
  """What is downloaded and unpacked is this folder; nothing else is reached."""
  tfds = pytest.importorskip('tensorflow_datasets')
  with (
    mock.patch.object(
      tfds.download.DownloadManager,
      'download_and_extract',
      lambda self, url: tfds.core.Path(folder),
    ),
    mock.patch.object(readers_tfds, '_require_reachable'),
  ):
    yield
