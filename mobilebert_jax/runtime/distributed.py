"""One run over many processes, by JAX's own runtime.

Every process runs the same program. JAX's coordination service, which process 0
hosts, carries what they must agree about; with a single process nothing here
touches it, opens a port or loads jax. Which process this one is comes from
flags, or from the environment.

See https://docs.jax.dev/en/latest/multi_process.html. The one module that knows
`jax.distributed`.
"""

import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mobilebert_jax.runtime import peer_failure
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.peer_failure import LostProcessError, is_lost

T = TypeVar('T')

# A process that says nothing for so long is lost: the others end within a
# minute, and a host that is merely busy is not given up.
_HEARTBEAT_SECONDS = 30
# How long a process that ends waits for the others to end as well.
_SHUTDOWN_SECONDS = 20
# How long a process that starts waits for the others to start as well.
_START_SECONDS = 300
# One process may do long work, such as writing a model, while others wait.
_WAIT_MS = 24 * 3600 * 1000
# Process 0 hosts the service by which the others hear why the run ends; it goes
# when they have had so long to ask.
_HEARD_SECONDS = 1
# Waits are cut into pieces, so that Ctrl-C is heard.
_POLL_MS = 2000
# The exit status of a process that had to stop because another one was lost.
LOST = 75

FLAGS = {
  'coordinator_address': 'host:port of process 0, if several processes run',
  'num_processes': 'how many processes run',
  'process_id': 'the number of this process, from 0',
}

_TOGETHER = (
  f'start the same command on all of them within {_START_SECONDS} s, with the '
  'same coordinator address and number of processes.'
)
_AGAIN = 'the same command on every process continues the run.'
_numbers = itertools.count()


def initialize(flags: Mapping[str, str]):
  """Joins the other processes of the run, if there are any.

  They are known from the flags or from the environment: Cloud TPU, GKE, SLURM
  and Open MPI, as `jax.distributed.initialize` finds them. A plain start on one
  machine does nothing. To be called before any device is touched.

  Args:
    flags: those of `FLAGS` that were given.

  Raises:
    InputError: flags that are incomplete or wrong, or processes that do not
      find one another.
  """
  arguments = discover(flags)
  if arguments is not None:
    _connect(arguments)


def _connect(arguments: Mapping[str, Any]):
  import jax

  peer_failure.set_message(
    'error: the other processes of the run were not found (JAX says more, '
    f'above); {_TOGETHER}'
  )
  try:
    jax.distributed.initialize(
      **arguments,
      initialization_timeout=_START_SECONDS,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
  except RuntimeError as error:
    raise InputError(
      f'the processes did not find one another ({_first_line(error)}); '
      f'{_TOGETHER}'
    ) from None
  finally:
    peer_failure.clear_message()
  if process_count() > 1:
    peer_failure.set_message(
      f'error: process {process_index()} of {process_count()} was stopped: it '
      'was killed, or another process of the run died or could not be reached '
      f'(JAX says which, above); {_AGAIN}'
    )


def process_count() -> int:
  """How many processes run this program together."""
  return _state().num_processes if _client() else 1


def process_index() -> int:
  """The number of this process, from 0."""
  return _state().process_id if _client() else 0


def is_primary() -> bool:
  """Returns whether this process is the one that writes files and talks."""
  return process_index() == 0


def print_on_primary(text: str):
  """Prints a line, once for all processes."""
  if is_primary():
    print(text, flush=True)


def barrier(name: str):
  """Waits until every process has come here.

  Args:
    name: tells barriers apart in the runtime's messages.
  """
  if process_count() > 1:
    number = next(_numbers)
    _client().wait_at_barrier(f'mobilebert_jax/{number}/{name}', _WAIT_MS)


def run_on_primary(function: Callable[[], T]) -> T:
  """Runs a function on process 0 alone; the others wait for its result.

  Args:
    function: what it returns is JSON-able and small.

  Returns:
    What it returned, on every process.

  Raises:
    InputError: it raised one; the same is raised on every process.
    LostProcessError: it raised something else, on the other processes.
  """
  if process_count() == 1:
    return function()
  name = _name()
  if not is_primary():
    outcome = _get(name)
    _raise_for(outcome, 0)
    return outcome['result']
  result, outcome, error = _try(function)
  _set(name, {'result': result, **outcome})
  if error is not None:
    raise error
  return result  # type: ignore[return-value]


def raise_on_all(function: Callable[[], T]) -> T:
  """Runs a function on every process; an InputError on one is one on all.

  Returns:
    What it returned on this process.

  Raises:
    InputError: of the first process that raised one, on every process.
    LostProcessError: it raised something else on another process.
  """
  if process_count() == 1:
    return function()
  result, outcome, error = _try(function)
  if error is None or isinstance(error, InputError):
    for index, other in enumerate(_exchange(outcome)):
      _raise_for(other, index)
    return result  # type: ignore[return-value]
  if is_primary():
    _exchange(outcome)
  else:
    # Not to wait for an answer: process 0, which hosts the service, ends as
    # soon as it has heard of this, and the error would not be told.
    _set(f'{_name()}/{process_index()}', outcome)
  raise error


def gather(value: T) -> list[T]:
  """A small JSON-able value of every process, on every process."""
  return [value] if process_count() == 1 else _exchange(value)


def check_same(what: str, value: Any):
  """Checks that every process has the same small JSON-able value.

  Raises:
    InputError: they have not; on every process.
  """
  values = gather(value)
  for index, other in enumerate(values):
    if other != values[0]:
      raise InputError(
        f'the {what} of process {index} is another than that of process 0; '
        'start the same on all of them.'
      )


def fail(error: Exception):
  """Ends this process of several at once, after an error that was not expected.

  An ordinary end would wait for the other processes, which wait for this one.
  With a single process it does nothing.
  """
  if process_count() == 1:
    return
  if is_lost(error):
    print(
      f'error: process {process_index()} of {process_count()} stops, because '
      f'another process of the run has stopped ({_first_line(error)}); '
      f'{_AGAIN}',
      file=sys.stderr,
    )
  else:
    traceback.print_exception(error)
  leave(LOST if is_lost(error) else 1)


def leave(status: int):
  """Ends this process of several at once, when it has said why.

  With a single process it does nothing.
  """
  if process_count() == 1:
    return
  peer_failure.clear_message()
  sys.stdout.flush()
  sys.stderr.flush()
  if is_primary():
    time.sleep(_HEARD_SECONDS)
  os._exit(status)


def _state() -> Any:
  from jax._src import distributed

  return distributed.global_state


def _client() -> Any:
  """The coordination service's client; None with a single process."""
  return _state().client if 'jax' in sys.modules else None


def _name() -> str:
  """A key that all processes use at the same place of the program."""
  return f'mobilebert_jax/{next(_numbers)}'


def _exchange(value: Any) -> list[Any]:
  name = _name()
  if not is_primary():
    _set(f'{name}/{process_index()}', value)
    return _get(name)
  others = range(1, process_count())
  values = [value, *(_get(f'{name}/{index}') for index in others)]
  _set(name, values)
  return values


def _set(name: str, value: Any):
  _client().key_value_set(name, json.dumps(value))


def _get(name: str) -> Any:
  import jax

  while True:
    try:
      return json.loads(_client().blocking_key_value_get(name, _POLL_MS))
    except jax.errors.JaxRuntimeError as error:
      if 'DEADLINE_EXCEEDED' not in str(error):
        raise LostProcessError(_first_line(error)) from None


def _try(
  function: Callable[[], T],
) -> tuple[T | None, dict[str, str], BaseException | None]:
  """The result of a call, what the others must know of it, and its error."""
  try:
    return function(), {}, None
  except InputError as error:
    return None, {'wrong': str(error)}, error
  # Whatever it is, the others must not wait for it.
  except BaseException as error:
    return None, {'failed': f'{type(error).__name__}'}, error


def _raise_for(outcome: Mapping[str, Any], index: int):
  """Raises what another process has told."""
  if 'wrong' in outcome:
    raise InputError(outcome['wrong'])
  if 'failed' in outcome:
    raise LostProcessError(f'process {index}: {outcome["failed"]}')


def _first_line(error: BaseException) -> str:
  return str(error).strip().partition('\n')[0]


# The flags of the commands, with their help.


def discover(flags: Mapping[str, str]) -> dict[str, Any] | None:
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
