"""TPU chips, and the slices of them that libtpu compiles for.

Where the figures come from: compute, memory, bandwidth and shapes of slices
from Google's pages (docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e); the
bandwidth of one link is the page's figure for a chip divided by its links (v4:
Jouppi et al. 2023, arXiv 2304.01433, section 2). `usable_gib` is what libtpu
0.0.50 itself names as available when a program is too large (0.0.42: up to 0.01
more).
"""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.runtime.errors import InputError

_SQUARES = (
  '1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16',
)  # fmt: skip
_CUBES = (
  '2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8',
  '8x8x16', '8x16x16', '16x16x16',
)  # fmt: skip
# libtpu asks the cloud's metadata server where it runs unless it is told.
_ENVIRONMENT: Mapping[str, str] = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  # Compiling touches no chip, so that several processes may do it at once.
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """One kind of TPU chip.

  Attributes:
    name: the name in topologies.
    peak_flops: bfloat16 FLOPs per second.
    hbm_gib: memory as published, GiB.
    usable_gib: memory that a program may use, GiB.
    hbm_bandwidth: bytes per second.
    link_bandwidth: bytes per second of one link in one direction.
    links: links to other chips.
    cores: TensorCores. JAX sees one device per chip: where there are two
      cores, both work on the same program with the chip's whole memory
      ('megacore').
    slices: shapes of slices.
    configuration: libtpu's name for the way the cores are used; None: its
      default.
  """

  name: str
  peak_flops: float
  hbm_gib: float
  usable_gib: float
  hbm_bandwidth: float
  link_bandwidth: float
  links: int
  cores: int
  slices: tuple[str, ...]
  configuration: str | None = None


CHIPS: Mapping[str, Chip] = {
  chip.name: chip
  for chip in (
    Chip('v5e', 197e12, 16, 15.75, 819e9, 50e9, 4, 1, _SQUARES),
    Chip('v6e', 918e12, 32, 31.24, 1600e9, 100e9, 4, 1, _SQUARES),
    Chip('v5p', 459e12, 95, 95.73, 2765e9, 100e9, 6, 2, (*_CUBES, '16x16x24')),
    # libtpu's default for v4 is a device per core, with half of the memory;
    # on Cloud TPU VMs, JAX has one device per chip.
    Chip('v4', 275e12, 32, 30.75, 1200e9, 50e9, 6, 2, _CUBES, 'megacore'),
  )
}


@dataclasses.dataclass(frozen=True)
class Slice:
  """Chips that are linked with one another.

  Attributes:
    chip: their kind.
    shape: how many there are along each axis.
  """

  chip: Chip
  shape: tuple[int, ...]

  @property
  def name(self) -> str:
    """'v5e:4x4'."""
    return f'{self.chip.name}:{"x".join(map(str, self.shape))}'

  @property
  def size(self) -> int:
    """Number of chips, and of JAX's devices."""
    return math.prod(self.shape)

  def devices(self) -> Sequence[Any]:
    """Returns JAX's devices of the slice, which can only be compiled for.

    Raises:
      InputError: libtpu is not installed, or cannot be loaded.
    """
    import jax

    if not _is_libtpu_installed():
      raise InputError(
        'libtpu, the compiler for TPUs, is not installed: '
        "pip install 'mobilebert_jax[tpu]'."
      )
    for name, value in _ENVIRONMENT.items():
      os.environ.setdefault(name, value)
    from jax.experimental import topologies

    more: dict[str, Any] = {}
    if self.chip.configuration is not None:
      more['chip_config_name'] = self.chip.configuration
    if self.size == 1:
      # Older libtpu (0.0.42) thinks of hosts with four chips.
      more['chips_per_host_bounds'] = (1, 1, 1)
    try:
      described = topologies.get_topology_desc(
        platform='tpu', topology_name=self.name, **more
      )
    except jax.errors.JaxRuntimeError as error:
      raise InputError(_refusal(self, str(error))) from None
    devices = described.devices
    if len(devices) != self.size:
      raise RuntimeError(
        f'libtpu gives {len(devices)} devices for {self.name}, not one for '
        'each chip.'
      )
    return devices


def parse(name: str) -> Slice:
  """Returns the slice that a topology's name means, such as 'v5e:4x4'.

  Raises:
    InputError: there is none of this name.
  """
  kind, _, shape = name.partition(':')
  if kind not in CHIPS:
    raise InputError(
      f'--topology={name}: the chip must be one of {", ".join(CHIPS)}, as in '
      'v5e:4x4.'
    )
  if shape not in CHIPS[kind].slices:
    raise InputError(
      f'--topology={name}: a slice of {kind} is one of '
      f'{", ".join(CHIPS[kind].slices)}.'
    )
  return Slice(CHIPS[kind], tuple(map(int, shape.split('x'))))


def _is_libtpu_installed() -> bool:
  """Returns whether JAX would find it; once it is loaded, JAX does not look."""
  if os.path.isfile(os.environ.get('TPU_LIBRARY_PATH', '')):
    return True
  return importlib.util.find_spec('libtpu') is not None


def _refusal(of: Slice, message: str) -> str:
  if 'lockfile' in message:
    return (
      'another process uses libtpu and keeps it locked: wait until it has '
      'finished; if there is none, remove /tmp/libtpu_lockfile.'
    )
  line = ' '.join(message.split())
  return f'--topology={of.name}: the installed libtpu refuses it: {line}'
