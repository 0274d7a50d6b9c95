import signal

import pytest

from mobilebert_jax.config import configure
from mobilebert_jax.experiments import trial
from mobilebert_jax.runtime import exit_status, preemption
from mobilebert_jax.runtime.errors import InputError, RunError
from mobilebert_jax.runtime.preemption import Interrupted, Watch
from mobilebert_jax.training import failures, loop
from mobilebert_jax.training.hooks import Hook
from tests.support import tiny


def test_a_watch_waits_for_a_border_and_puts_the_handler_back():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Interrupted) as stop, Watch() as watch:
    assert not watch.asked()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert watch.asked()
    watch.check()
  assert stop.value.code == 75
  assert signal.getsignal(signal.SIGTERM) is before


def test_being_asked_behind_the_last_border_is_not_forgotten():
  with pytest.raises(Interrupted), Watch():
    signal.raise_signal(signal.SIGTERM)


def test_without_a_watch_it_stops_at_once():
  with pytest.raises(Interrupted), preemption.stop_at_once():
    signal.raise_signal(signal.SIGTERM)
    pytest.fail('SIGTERM was not heard')


def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost():
  """Python drops what is raised there."""
  import gc
  import time

  def callback(phase, info):
    if phase == 'start' and not asked:
      asked.append(info)
      signal.raise_signal(signal.SIGTERM)

  asked = []
  gc.callbacks.append(callback)
  try:
    with pytest.raises(Interrupted), preemption.stop_at_once():
      gc.collect()
      assert asked
      time.sleep(30)
      pytest.fail('SIGTERM was lost')
  finally:
    gc.callbacks.remove(callback)


def test_a_thread_of_its_own_hears_nothing_and_breaks_nothing():
  import threading

  found = []

  def use():
    with Watch() as watch:
      found.append(watch.asked())

  thread = threading.Thread(target=use)
  thread.start()
  thread.join()
  assert found == [False]


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  path = tiny.write(tmp_path_factory.mktemp('config'))
  return configure(path)


@pytest.mark.slow
def test_another_run_in_the_same_workdir_is_refused(config, tmp_path):
  refused = []

  class StartAgain(Hook):
    def before_evaluation(self, step):
      with pytest.raises(InputError) as error:
        loop.train(config, tmp_path / 'run')
      refused.append(str(error.value))
      raise Interrupted('enough')

  with pytest.raises(Interrupted):
    loop.train(config, tmp_path / 'run', hooks=[StartAgain()])
  assert len(refused) == 1 and 'in use by another run, process' in refused[0]


@pytest.mark.parametrize(
  'error, told',
  [
    (OSError(28, 'No space left on device', 'x/y'), 'x/y cannot be written: '),
    (
      ValueError('Error writing local file "c/0": No space left on device'),
      'c/0 cannot be written: the disk is full',
    ),
    (PermissionError(13, 'Permission denied', 'x/y'), 'x/y cannot be read or'),
    (MemoryError(), r'accumulation_steps \(1\), remat=full \(none\)'),
  ],
)
def test_trouble_is_told_in_one_sentence(config, tmp_path, error, told):
  with pytest.raises(RunError, match=told) as raised:
    with failures.translate_errors(config, tmp_path):
      raise error
  assert '\n' not in str(raised.value)


def test_a_defect_of_the_program_stays_what_it_is(config, tmp_path):
  with (
    pytest.raises(ZeroDivisionError),
    failures.translate_errors(config, tmp_path),
  ):
    1 / 0  # noqa: B018


def test_an_interrupted_attempt_has_not_diverged(config, tmp_path, monkeypatch):
  """So the sweep and the suite end with 75, and continue with this run."""

  def interrupted(config, path):
    raise Interrupted('step 2 of 8 is saved')

  monkeypatch.setattr(trial.launch, 'train', interrupted)
  with pytest.raises(Interrupted):
    trial.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  assert trial.read(config, tmp_path / 'run').status == 'not finished'


def test_a_command_exits_with_75(monkeypatch, capsys):
  def main(argv):
    signal.raise_signal(signal.SIGTERM)

  monkeypatch.setattr('sys.argv', ['train.py'])
  assert exit_status.run(main, ['x']) == 75
  assert 'interrupted; the same command starts again' in capsys.readouterr().err
