"""The picture of a chain: what is drawn are the losses that were logged."""

import pytest

from mobilebert_jax.experiments.recipe import report
from mobilebert_jax.reporting import pictures


@pytest.fixture
def draw(tmp_path, monkeypatch):
  """Draws one run, and gives back its losses' axes."""
  figures = []
  save = pictures.save

  def kept(figure, path):
    figures.append(figure)
    return save(figure, path)

  monkeypatch.setattr(pictures, 'save', kept)

  def drawn(records):
    path = report.draw_curves(
      tmp_path / 'chain.png', {'student': (records, 'validation/accuracy')}
    )
    assert path.stat().st_size > 5_000
    return figures[-1].axes[0]

  return drawn


def lines(axes):
  """The drawn lines that have points, as (steps, values)."""
  found = [line.get_data() for line in axes.get_lines()]
  return [([*steps], [*values]) for steps, values in found if len(steps) > 2]


def labels(axes):
  return [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_stage_has_its_own_losses(draw):
  """A stage does not go on with the average of the one before."""
  stages = ([9.0, 8.0, 7.0], [100.0, 50.0, 25.0], [5.0] * 300 + [1.0] * 300)
  values = [(x, stage) for stage, some in enumerate(stages) for x in some]
  records = [
    {'step': step, 'loss': loss, 'stage': stage}
    for step, (loss, stage) in enumerate(values, start=1)
  ]
  drawn = lines(draw([*records, {'step': 606, 'validation/accuracy': 0.5}]))
  # A few values are not averaged.
  assert drawn[:2] == [([1, 2, 3], stages[0])] * 2
  assert drawn[2:4] == [([4, 5, 6], stages[1])] * 2
  (_, raw), (_, averaged) = drawn[4:]
  assert raw == stages[2]
  assert averaged[:300] == raw[:300]
  assert averaged[300] == pytest.approx(4.6)


@pytest.mark.parametrize(
  ('terms', 'shown'),
  [
    ((), []),
    (('task_soft', 'task_hard'), ['task_hard', 'task_soft']),
    (
      ('next_sentence', 'masked_lm_hard', 'masked_lm_soft', 'attention'),
      ['attention', 'masked_lm_hard', 'masked_lm_soft', 'next_sentence'],
    ),
    (('end_hard', 'start_hard'), ['end_hard', 'start_hard']),
  ],
)
def test_every_term_of_a_distilled_loss_is_shown(draw, terms, shown):
  values = dict.fromkeys(('loss', *terms), 1.0)
  told = {'task_agreement': 0.5, 'validation/loss': 1.0, 'epoch': 0.1}
  records = [{'step': step, **values, **told} for step in (1, 2, 3)]
  axes = draw([*records, {'step': 3, 'validation/accuracy': 0.5}])
  assert labels(axes) == ['loss', *shown]
