"""Lowers and compiles the steps that `train.py` runs, for any devices."""

import dataclasses
import math
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.runtime import compilation_cache
from mobilebert_jax.tasks import Task
from mobilebert_jax.tpu_compile import distillation, inputs
from mobilebert_jax.tpu_compile.hlo import counts as hlo_counts
from mobilebert_jax.training import evaluate, setup, starting, train_step
from mobilebert_jax.training.method import MethodInputs, supervised_step
from mobilebert_jax.training.optimizer import Optimizer, make_optimizer
from mobilebert_jax.training.train_step import TrainState

AbstractBatch = dict[str, jax.ShapeDtypeStruct]
# A run whose length follows from its data; it decides constants alone.
_ANY_STEPS = 1000
_STAGE = 'stage '
_GIB = 2**30
_USED = re.compile(
  r'\(([\d.]+)([KMGT]?)\) exceeds available|Used ([\d.]+)(\w?)'
)
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


class DoesNotFitError(Exception):
  """The compiler found that a step needs more memory than a chip has.

  Attributes:
    step: 'training' or 'evaluation'.
    needed_gib: what it needs, as far as the compiler tells.
  """

  def __init__(self, step: str, message: str):
    super().__init__(' '.join(message.split('\n')[0].split()))
    self.step = step
    match = _USED.search(message)
    self.needed_gib = None
    if match:
      number, unit = [part for part in match.groups() if part is not None]
      self.needed_gib = float(number) * _UNITS[unit] / _GIB


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one device, from the compiled step's `memory_analysis()`.

  Attributes:
    state: arguments: parameters, moments and the batch. (The new state takes
      the old one's place.)
    results: what is returned beside the new state.
    temporary: activations, gradients and buffers, at their peak.
    code: the program itself.
  """

  state: int
  results: int
  temporary: int
  code: int

  @property
  def total(self) -> int:
    """All of it."""
    return self.state + self.results + self.temporary + self.code


@dataclasses.dataclass(frozen=True)
class CompiledStep:
  """One compiled step.

  Attributes:
    name: 'training' or 'evaluation'.
    compiled: JAX's compiled program.
    seconds: time of lowering and compilation.
    memory: what it needs on each device.
    counts: what one execution does on each device.
    batch: shapes of the global batch.
    is_stable: whether a training step's new state has the shapes, shardings
      and layouts of the old one; otherwise the next step would be compiled
      anew. None for an evaluation step.
  """

  name: str
  compiled: Any
  seconds: float
  memory: Memory
  counts: hlo_counts.Counts
  batch: AbstractBatch
  is_stable: bool | None


@dataclasses.dataclass(frozen=True)
class CompilationPlan:
  """A run on given devices: all that decides its compiled steps."""

  config: TrainConfig
  task: Task
  architecture: MobileBertConfig
  mesh: Mesh
  teacher: MobileBertConfig | None = None
  stages: tuple[Stage, ...] = ()

  @property
  def steps(self) -> tuple[str, ...]:
    """The steps that are worth compiling.

    With a teacher these are the first and the last stage of the transfer, which
    become more expensive from one to the next, and then the distillation.
    """
    transfer = [s.number for s in self.stages if not s.has_task]
    ends = sorted({*transfer[:1], *transfer[-1:]})
    has_training = len(transfer) < len(self.stages) or not self.stages
    return (
      *(f'{_STAGE}{number}' for number in ends),
      *(('training',) if has_training else ()),
      'evaluation',
    )

  def stage(self, name: str) -> Stage | None:
    """The stage of a step; None without a teacher, or for an evaluation."""
    if name.startswith(_STAGE):
      return self.stages[int(name.removeprefix(_STAGE))]
    return self.stages[-1] if self.stages and name == 'training' else None


def plan(
  config: TrainConfig, devices: Sequence[Any] | None = None
) -> CompilationPlan:
  """Checks a run as `train.py` does, as far as that needs no data.

  Args:
    config: the run.
    devices: where it is to run; None: this process's devices.

  Raises:
    InputError: a setting is wrong or does not fit the devices.
  """
  task = setup.find_task(config)
  mesh = setup.make_mesh(config, devices)
  architecture = inputs.architecture(config, task)
  return CompilationPlan(
    config,
    task,
    architecture,
    mesh,
    distillation.teacher_architecture(config, task, architecture),
    distillation.plan_stages(config, architecture),
  )


def batch(of: CompilationPlan, name: str) -> AbstractBatch:
  """Returns the shapes of a step's global batch."""
  is_training = name != 'evaluation'
  return inputs.batch(of.config, of.task, of.mesh, is_training=is_training)


def state_bytes(of: CompilationPlan) -> int:
  """Returns the bytes of parameters and moments on each device."""
  tx = make_optimizer(of.config.optimizer, _ANY_STEPS)
  with jax.set_mesh(of.mesh):
    state = _state(of, model_of(of), tx)
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(state)
  )


def training_step(of: CompilationPlan) -> tuple[Any, Any, Any, AbstractBatch]:
  """The jitted training step, its optimizer, and its abstract arguments.

  Returns:
    (step, optimizer, state, batch).
  """
  config, model = of.config, model_of(of)
  tx = make_optimizer(config.optimizer, config.num_steps or _ANY_STEPS)
  with jax.set_mesh(of.mesh):
    state = _state(of, model, tx)
    step: Any = supervised_step(_method_inputs(of, model), tx)
    batch = inputs.batch(config, of.task, of.mesh, is_training=True)
  return step, tx, state, batch


def lower_training(of: CompilationPlan) -> tuple[Any, AbstractBatch]:
  """The lowered training step, and its batch."""
  step, _, state, batch = training_step(of)
  with jax.set_mesh(of.mesh):
    return step.lower(state, batch), batch


def lower_evaluation(of: CompilationPlan) -> tuple[Any, AbstractBatch]:
  """The lowered evaluation step with the loss, and its batch."""
  config, model = of.config, model_of(of)
  tx = make_optimizer(config.optimizer, _ANY_STEPS)
  with jax.set_mesh(of.mesh):
    state = _state(of, model, tx)
    step = evaluate.make_eval_step(
      model.with_folded_norms(), of.task.predict, of.task.loss, of.mesh
    )
    batch = inputs.batch(config, of.task, of.mesh, is_training=False)
    params = _folded(model, state.params)
    lowered = step.lower(params, batch)  # type: ignore[attr-defined]
    return lowered, batch


def _folded(model: Any, params: Any) -> Any:
  """Returns the parameters that `Evaluator` folds, and where they lie then."""
  lowered = jax.jit(model.fold_norms).lower(params)
  with compilation_cache.unused():
    shardings = lowered.compile().output_shardings
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    lowered.out_info,
    shardings,
  )


def _lower(of: CompilationPlan, name: str) -> tuple[Any, AbstractBatch]:
  stage = of.stage(name)
  if stage is None:
    return {'training': lower_training, 'evaluation': lower_evaluation}[name](
      of
    )
  assert of.teacher is not None
  with jax.set_mesh(of.mesh):
    batch = inputs.batch(of.config, of.task, of.mesh, is_training=True)
    run = _method_inputs(of, model_of(of))
    lowered = distillation.lower_stage(run, of.teacher, stage, batch)
  return lowered, batch


def compile_step(of: CompilationPlan, name: str) -> CompiledStep:
  """Compiles one step for the devices of the plan.

  Args:
    of: the run and its devices.
    name: one of `Plan.steps`, or 'stage N'.

  Raises:
    InputError: see `inputs.batch`, or a mesh that does not divide the model.
    DoesNotFitError: a device has not enough memory.
  """
  start = time.perf_counter()
  lowered, batch = _lower(of, name)
  try:
    with compilation_cache.unused():
      compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise DoesNotFitError(name, str(error)) from None
  seconds = time.perf_counter() - start
  analysis = compiled.memory_analysis()
  memory = Memory(
    state=analysis.argument_size_in_bytes,
    results=analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
    temporary=analysis.temp_size_in_bytes,
    code=analysis.generated_code_size_in_bytes,
  )
  counts = hlo_counts.count(compiled.as_text())
  stable = None if name == 'evaluation' else _is_stable(lowered, compiled)
  return CompiledStep(name, compiled, seconds, memory, counts, batch, stable)


def _is_stable(lowered: Any, compiled: Any) -> bool:
  """Returns whether the new state is laid out as the old one."""
  (old, *_), _ = lowered.in_avals
  new, _ = lowered.out_info
  (before, *_), _ = compiled.input_formats
  after, _ = compiled.output_formats
  shapes = [
    [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
    for state in (old, new)
  ]
  formats = [jax.tree.leaves(state) for state in (before, after)]
  return shapes[0] == shapes[1] and formats[0] == formats[1]


def _state(of: CompilationPlan, model: Any, tx: Optimizer) -> TrainState:
  """Returns shapes and shardings of the state that a run has."""
  sharded = of.config.mesh.param_sharding
  return train_step.abstract_state(model, tx, of.mesh, sharded)[0]


def _method_inputs(of: CompilationPlan, model: Any) -> MethodInputs:
  """Returns what a step is built from; no step reads the tokenizer."""
  tokenizer: Any = None
  return MethodInputs(of.config, of.task, model, tokenizer, of.mesh)


def model_of(of: CompilationPlan) -> Any:
  """Returns the model of a run, as it computes."""
  return of.task.head(of.architecture, compute=starting.compute_of(of.config))
