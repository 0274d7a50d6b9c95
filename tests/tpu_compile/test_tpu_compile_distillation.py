"""What tpu_compile says of runs with a teacher, without libtpu."""

import jax
import pytest
from jax.sharding import PartitionSpec

from mobilebert_jax.tpu_compile import analytic, program
from tests.support import distilling, marks


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  return distilling.write(tmp_path_factory.mktemp('taught'))


def plan_of(place, settings, **distillation):
  config = distilling.config(
    place, batch_size=16, distillation=distillation, **settings
  )
  return program.plan(config, jax.devices())


@pytest.mark.parametrize('teacher', [True, False], ids=['taught', 'alone'])
@pytest.mark.parametrize('placement', ['sharded', 'replicated'])
def test_every_step_has_the_students_placement(placement, teacher, place):
  """A step without a teacher and the evaluation too, as when it is run."""
  settings = {'strategy': 'none', 'transfer_steps': 0}
  off = {} if teacher else {'teacher': None}
  plan = plan_of(
    place, {'mesh': {'data': 1, 'fsdp': 8, 'param_sharding': placement}},
    **settings, **off,
  )  # fmt: skip
  *_, state, _ = program.training_step(plan)
  is_divided = any(
    leaf.sharding.spec != PartitionSpec() for leaf in jax.tree.leaves(state)
  )
  assert is_divided == (placement == 'sharded')
  text = program.lower_evaluation(plan)[0].as_text()
  (arguments,) = [line for line in text.splitlines() if '@main' in line]
  # Rows of the batch are divided by two axes.
  assert ('{"fsdp"}' in arguments) == (placement == 'sharded')


# Settings of a stage, which of its stages, and what of the teacher it runs.
CASES = {
  'first layer': ({}, 0, {'num_hidden_layers': 2}, False),
  'first layer, statistics of all': (
    {'teacher_average_statistics': True}, 0, {}, False,
  ),
  'statistics of all, which are off': (
    {'teacher_average_statistics': True, 'mean': 0.0, 'variance': 0.0},
    0, {'num_hidden_layers': 2}, False,
  ),
  'auxiliary': ({'strategy': 'auxiliary', 'transfer_steps': 0}, 0, {}, True),
  'auxiliary, labels of the data': (
    {
      'strategy': 'auxiliary', 'transfer_steps': 0, 'ground_truth_ratio': 1.0,
      'teacher_layers': (0, 1),
    },
    0, {'num_hidden_layers': 2}, False,
  ),
  'labels of the data': ({'ground_truth_ratio': 1.0}, 2, None, False),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_flops_of_what_a_stage_runs_of_its_teacher(name, place):
  changed, number, blocks, has_head = CASES[name]
  plan = plan_of(place, {}, **changed)
  stage, head, shape = plan.stages[number], plan.task.head, (16, 12)
  work = analytic.Workload(plan.architecture, head, *shape, 16, 32)
  found, _ = analytic.distillation(plan.config, plan.teacher, stage, work)
  layers = plan.architecture.num_hidden_layers
  own = plan.architecture.replace(
    num_hidden_layers=layers if stage.has_task else stage.layers[-1] + 1
  )
  counted = (16, 32) if stage.has_task else (0, 0)
  expected = analytic.model_flops(
    analytic.Workload(own, head, *shape, *counted)
  )
  if blocks is not None:
    counted = (16, 32) if has_head else (0, 0)
    theirs = plan.teacher.replace(**blocks)
    expected += analytic.forward(
      analytic.Workload(theirs, head, *shape, *counted)
    )
  assert found == expected


@pytest.mark.scale
@pytest.mark.parametrize(
  'name',
  # The others' formulas are compared above; each is made of the same parts.
  marks.long_but(('first layer', 'auxiliary', 'labels of the data'), CASES),
)
def test_a_compiled_stage_computes_what_its_formula_says(name, place):
  changed, number, *_ = CASES[name]
  # What the formula is of: own gradients sum a bias's by a product, too.
  config = distilling.config(
    place, batch_size=16, distillation=changed, norms='separate'
  )
  plan = program.plan(config, jax.devices()[:1])
  step = program.compile_step(
    plan, 'training' if plan.stages[number].has_task else f'stage {number}'
  )
  rows, length = step.batch['input_ids'].shape
  expected, _ = analytic.distillation(
    config,
    plan.teacher,
    plan.stages[number],
    analytic.Workload(
      plan.architecture,
      plan.task.head,
      rows,
      length,
      rows,
      step.batch['masked_positions'].size,
    ),
  )
  assert step.counts.flops == pytest.approx(expected, rel=0.02)
