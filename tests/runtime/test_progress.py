"""What a run says of its progress where there is no terminal."""

import pytest

from mobilebert_jax.runtime import progress


@pytest.fixture
def clock(monkeypatch):
  """Seconds, in a list of one; nothing else passes time."""
  now = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
  return now


def lines_of(capsys):
  return [line for line in capsys.readouterr().err.splitlines() if line]


def test_compiling_is_no_part_of_the_time_that_is_left(clock, capsys):
  with progress.Progress(total=103, done=0, batch_size=8) as bar:
    clock[0] += 50.0  # The first program is compiled.
    bar.advance(1.0)
    for step in range(2):
      # And one for rows of another length.
      clock[0] += 40.0 if step else 1.0
      bar.advance(1.0)
    for _ in range(20):
      clock[0] += 2.0
      bar.advance(1.0)
  first, second, *others = lines_of(capsys)
  assert (
    first == 'step 1/103, loss 1.0000, 0 examples/s, the first steps compile'
  )
  assert second.endswith(' left')
  # 89 steps like those before, of which one took a second and the others two.
  assert others[0].startswith('step 14/103, ')
  assert others[0].endswith(', 02:51 left')


def test_an_evaluation_is_no_part_of_it(clock, capsys):
  with progress.Progress(total=40, done=10, batch_size=8) as bar:
    for _ in range(20):
      clock[0] += 3.0
      bar.advance(1.0)
      clock[0] += 100.0
      bar.restart_clock()
  assert lines_of(capsys)[-1].endswith(', 3 examples/s, 00:30 left')
