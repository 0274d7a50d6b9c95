"""Which process of a run this one is: from flags, or from the environment."""

import os
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.runtime.errors import InputError

# The flags of the commands, with their help.
FLAGS = {
  'coordinator_address': 'host:port of process 0, if several processes run',
  'num_processes': 'how many processes run',
  'process_id': 'the number of this process, from 0',
}


def find(flags: Mapping[str, str]) -> dict[str, Any] | None:
  """What `jax.distributed.initialize` needs to be told.

  Args:
    flags: those of `FLAGS` that were given; other names are not looked at.

  Returns:
    Its arguments; {} where it finds them by itself; None if this process is
    the only one and has nobody to join.

  Raises:
    InputError: flags that are incomplete or wrong.
  """
  given = {name: flags[name] for name in FLAGS if name in flags}
  if given:
    arguments = _parse(given)
    return arguments if arguments['num_processes'] > 1 else None
  count, is_tpu = _detected()
  # On a Cloud TPU also when it is the only one: there the runtime brings the
  # notice of a preemption.
  return {} if count > 1 or is_tpu else None


def refuse_several(command: str):
  """For commands that run as one process.

  Raises:
    InputError: the environment says that this is one process of several.
  """
  count, _ = _detected()
  if count > 1:
    raise InputError(
      f'{command} runs as one process, but this is one of {count}; start it '
      'on one machine, or use train.py and eval.py, which run on all.'
    )


def _parse(given: Mapping[str, str]) -> dict[str, Any]:
  missing = [f'--{name}' for name in FLAGS if name not in given]
  if missing:
    raise InputError(
      f'{", ".join(missing)} is missing: several processes need all of '
      f'{", ".join(f"--{name}" for name in FLAGS)}.'
    )
  numbers = {}
  for name in ('num_processes', 'process_id'):
    if not given[name].isdecimal():
      raise InputError(f'--{name} is {given[name]!r}, but must be a number.')
    numbers[name] = int(given[name])
  count, process = numbers.values()
  if count < 1:
    raise InputError(f'--num_processes is {count}, but must be at least 1.')
  if not process < count:
    raise InputError(
      f'--process_id is {process}, but must be from 0 to {count - 1}: '
      f'--num_processes is {count}.'
    )
  address = given['coordinator_address']
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal():
    raise InputError(
      f'--coordinator_address is {address!r}, but must be host:port, such as '
      '10.0.0.1:8476.'
    )
  return {'coordinator_address': address, **numbers}


def _detected() -> tuple[int, bool]:
  """Number of processes, and whether they run on Cloud TPU.

  Asks JAX's own detection (Cloud TPU, GKE, SLURM, Open MPI, Kubernetes), in its
  order, because `jax.distributed.initialize` cannot be asked without acting.
  """
  from jax._src import clusters

  for kind in clusters.ClusterEnv._cluster_types:
    if kind.opt_in_only_method or not kind.is_env_present():
      continue
    is_tpu = 'Tpu' in kind.__name__
    if is_tpu and os.environ.get('JAX_PLATFORMS') == 'cpu':
      break
    return kind.get_process_count(), is_tpu
  return 1, False
