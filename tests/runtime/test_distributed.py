"""One process alone: flags and environment; nothing is started."""

import pytest

from mobilebert_jax.runtime import distributed
from mobilebert_jax.runtime.errors import InputError, RunError

GOOD = {
  'coordinator_address': '10.0.0.1:8476',
  'num_processes': '4',
  'process_id': '3',
}
SLURM = {
  'SLURM_JOB_ID': '17',
  'SLURM_STEP_NODELIST': 'node[001-004]',
  'SLURM_NTASKS': '4',
  'SLURM_PROCID': '2',
  'SLURM_LOCALID': '0',
}


def test_flags_say_which_process_this_is():
  assert distributed.discover(GOOD) == {
    'coordinator_address': '10.0.0.1:8476',
    'num_processes': 4,
    'process_id': 3,
  }


def test_a_plain_start_joins_nobody():
  assert distributed.discover({}) is None
  assert (
    distributed.discover({**GOOD, 'num_processes': '1', 'process_id': '0'})
    is None
  )


@pytest.mark.parametrize(
  'flag, value, message',
  [
    ('coordinator_address', None, '--coordinator_address is missing'),
    ('process_id', None, '--process_id is missing: several processes need all'),
    ('coordinator_address', 'host', "is 'host', but must be host:port"),
    ('coordinator_address', ':80', "is ':80', but must be host:port"),
    ('num_processes', 'two', "--num_processes is 'two', but must be a number"),
    ('process_id', '-1', "--process_id is '-1', but must be a number"),
    ('process_id', '4', '--process_id is 4, but must be from 0 to 3'),
    ('num_processes', '0', '--num_processes is 0, but must be at least 1'),
  ],
)
def test_wrong_flags(flag, value, message):
  flags = {**GOOD, flag: value}
  with pytest.raises(InputError, match=message):
    distributed.discover({k: v for k, v in flags.items() if v is not None})


def test_slurm_is_found_by_jax_itself(monkeypatch):
  for name, value in SLURM.items():
    monkeypatch.setenv(name, value)
  assert distributed.discover({}) == {}
  with pytest.raises(InputError, match='predict runs as one process, but this'):
    distributed.refuse_several('predict')


def test_a_task_of_slurm_that_is_alone_joins_nobody(monkeypatch):
  for name, value in {**SLURM, 'SLURM_NTASKS': '1'}.items():
    monkeypatch.setenv(name, value)
  assert distributed.discover({}) is None
  distributed.refuse_several('predict')


def test_on_a_cloud_tpu_also_a_single_process_joins(monkeypatch):
  from jax._src import cloud_tpu_init
  from jax._src.clusters import cloud_tpu_cluster

  assert not cloud_tpu_init.running_in_cloud_tpu_vm
  monkeypatch.setattr(cloud_tpu_cluster, 'running_in_cloud_tpu_vm', True)
  monkeypatch.setenv('TPU_WORKER_HOSTNAMES', 'localhost')
  monkeypatch.setenv('TPU_WORKER_ID', '0')
  monkeypatch.setenv('MEGASCALE_NUM_SLICES', '1')
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  assert distributed.discover({}) == {}
  # A command that leaves the TPU alone, while another one uses it.
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  assert distributed.discover({}) is None


def test_alone_everything_is_a_plain_call(capsys):
  distributed.initialize({})
  assert distributed.process_count() == 1
  assert distributed.is_primary()
  distributed.barrier('here')
  result = object()
  assert distributed.run_on_primary(lambda: result) is result
  assert distributed.raise_on_all(lambda: result) is result
  assert distributed.gather(3) == [3]
  distributed.check_same('command', {})
  distributed.print_on_primary('hello')
  distributed.fail(RunError('no'))
  distributed.leave(1)
  assert capsys.readouterr().out == 'hello\n'


def test_signs_of_a_lost_process():
  closed = ValueError('UNKNOWN: Gloo AllGather failed: Connection closed')
  assert distributed.is_lost(closed)
  assert distributed.is_lost(distributed.LostProcessError('process 1'))
  assert not distributed.is_lost(ValueError('Connection closed'))
  try:
    try:
      raise closed
    finally:
      raise KeyError('while cleaning up')
  except KeyError as error:
    assert distributed.is_lost(error)
