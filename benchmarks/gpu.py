"""What one GPU does with our steps, beside transformers' where torch is there.

  python benchmarks/gpu.py [--out=DIR] [--write]
  python benchmarks/gpu.py --pretrain=MINUTES --records=DIR --tokenizer=VOCAB \
    [--init=DIR] [--out=DIR]
  python benchmarks/gpu.py --plan

Written for one short visit to a machine with jax 0.11 or newer with CUDA, this
checkout and little else. In this order, each printed as soon as it is known:
  1. correctness: loss and gradient with fused attention and with XLA's, both
     in bfloat16, against float32;
  2. fine-tuning (256 x 128) and pre-training (64 x 512) steps in bfloat16, as
     train.py runs them: tokens per second, MFU, memory; then transformers with
     SDPA and torch.compile on the same shapes, if torch is installed (if not,
     that is said). Attention's dropout is 0 in both; ours also with 0.1;
  3. a profile of the fine-tuning step, by kernel.
--write puts the tables into RESULTS.md, between its marks.

--pretrain trains MobileBERT at its full size for so many minutes on records of
--length tokens (what `python -m mobilebert_jax.pretraining_data` writes) or
text, in batches of --batch_size, from scratch or from --init, and leaves its
weights in bfloat16 in DIR/model, in files of at most 16 MB. A later call with
--init=DIR/model goes on from there with fresh moments.

--plan prints what would run and the minutes it may take; --toy runs all of it
at a size for CPUs.
"""

import argparse
import dataclasses
import functools
import gc
import importlib.util
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mobilebert_jax import config as settings
from mobilebert_jax import models
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.data.batching import loader
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tpu_compile import analytic, program
from mobilebert_jax.training import mesh, setup, train_step
from mobilebert_jax.training.method import SUPERVISED
from mobilebert_jax.training.workdir import Workdir

_RESULTS = pathlib.Path(__file__).with_name('RESULTS.md')
_BEGIN, _END = '<!-- gpu -->', '<!-- end of gpu -->'
# Dense bfloat16 FLOPs per second, from NVIDIA's data sheets.
PEAKS = {
  'H200': 989e12, 'H100': 989e12, 'A100': 312e12, 'L40S': 362e12,
  'L4': 121e12, 'A10G': 70e12, 'T4': 65e12, 'V100': 125e12,
}  # fmt: skip
# (batch, length, predictions of masked words; None: classification).
CASES: Mapping[str, tuple[int, int, int | None]] = {
  'fine-tuning': (256, 128, None),
  'pre-training': (64, 512, 20),
}
_TOY_CASES: Mapping[str, tuple[int, int, int | None]] = {
  'fine-tuning': (8, 16, None),
  'pre-training': (8, 32, 4),
}
_TOY_MODEL = {
  'hidden_size': 32, 'intra_bottleneck_size': 32, 'embedding_size': 16,
  'num_hidden_layers': 2, 'num_attention_heads': 2, 'intermediate_size': 32,
  'num_feedforward_networks': 1, 'max_position_embeddings': 512,
}  # fmt: skip
_SHARD = '16MB'
# Of the minutes that --pretrain may take: what is left is for compiling,
# evaluating and saving.
_TRAINING_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Scale:
  """How large everything is.

  Attributes:
    cases: shapes by name.
    model: settings of the architecture.
    vocabulary: number of tokens.
    seconds: how long a step is timed.
  """

  cases: Mapping[str, tuple[int, int, int | None]]
  model: Mapping[str, Any]
  vocabulary: int
  seconds: float


FULL = Scale(
  CASES,
  settings.presets.model_settings(settings.MobileBertConfig.mobilebert()),
  30522,
  8.0,
)
TOY = Scale(_TOY_CASES, _TOY_MODEL, 500, 0.2)


def config_of(
  case: str,
  scale: Scale,
  *,
  attention: str = 'xla',
  dropout: float = 0.0,
  dtype: str = 'bfloat16',
  **more: Any,
) -> TrainConfig:
  """Returns a run whose step has the shapes of a case."""
  batch, length, predictions = scale.cases[case]
  options = {}
  if predictions is not None:
    options = {'options': {'max_predictions_per_sequence': predictions}}
  return settings.to_train_config(
    settings.config_dict(
      task='mnli' if predictions is None else 'masked_lm',
      model={
        **scale.model,
        'vocab_size': scale.vocabulary,
        'hidden_dropout_prob': 0.0,
        'attention_probs_dropout_prob': dropout,
      },
      data={
        'source': 'files', 'path': 'none', 'max_length': length,
        'batching': 'padded',
      },
      batch_size=batch,
      num_steps=1000,
      dtype=dtype,
      attention=attention,
      **options,
      **more,
    )
  )  # fmt: skip


def batch_of(plan: program.CompilationPlan, seed: int = 0) -> dict[str, Any]:
  """Returns a batch of random tokens without padding, on the devices."""
  rng = np.random.default_rng(seed)
  shapes = program.batch(plan, 'training')
  rows, length = shapes['input_ids'].shape
  c = plan.architecture
  masked = shapes.get('masked_positions')
  labels = shapes['labels'].shape
  filled = {
    'input_ids': rng.integers(5, c.vocab_size, (rows, length)),
    'token_type_ids': np.zeros((rows, length)),
    'attention_mask': np.ones((rows, length)),
    'labels': rng.integers(
      0, c.num_labels if masked is None else c.vocab_size, labels
    ),
    'weights': np.ones(rows),
    'document': np.arange(rows),
  }
  if masked is not None:
    places = [
      rng.choice(length, masked.shape[1], replace=False) for _ in range(rows)
    ]
    filled['masked_positions'] = np.sort(np.stack(places))
  return mesh.put_batch(
    {name: filled[name].astype(x.dtype) for name, x in shapes.items()},
    mesh=plan.mesh,
  )


def state_of(plan: program.CompilationPlan, tx: Any) -> train_step.TrainState:
  """Returns a state with random parameters."""
  model = program.model_of(plan)
  return train_step.create_state(
    model, tx, plan.mesh, jax.random.key(0), jax.random.key(1)
  )


# ------------------------------------------------------------ Correctness ---


def correctness(scale: Scale) -> list[str]:
  """Compares fused attention with XLA's; both against float32."""
  lines = [
    'Loss and gradient of pre-training without dropout against float32: '
    'relative error of the whole gradient.',
    '',
    '| attention | dtype | loss | error of the gradient |',
    '|---|---|--:|--:|',
  ]
  expected = None
  for attention, dtype in (
    ('xla', 'float32'),
    ('xla', 'bfloat16'),
    ('fused', 'bfloat16'),
  ):
    config = config_of('pre-training', scale, attention=attention, dtype=dtype)
    try:
      loss, gradient = _gradient(config)
    except InputError as error:
      lines.append(f'| {attention} | {dtype} | {error} | - |')
      continue
    expected = gradient if expected is None else expected
    distance = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    lines.append(f'| {attention} | {dtype} | {loss:.5f} | {distance:.2e} |')
  return lines


def _gradient(config: TrainConfig) -> tuple[float, np.ndarray]:
  plan = program.plan(config)
  model, task = program.model_of(plan), plan.task
  function = train_step.gradient_fn(model, task.loss)
  with (
    jax.set_mesh(plan.mesh),
    jax.default_matmul_precision(
      'highest' if config.dtype == 'float32' else 'default'
    ),
  ):
    params = models.init_params(model, jax.random.key(0))
    batch = batch_of(plan)

    @jax.jit
    def run(params, batch):
      weights = train_step.total_weights(model, task.loss, params, batch)
      return function(params, batch, weights, jax.random.key(1))

    loss, grads = run(params, batch)
    flat = [np.asarray(g, np.float64).ravel() for g in jax.tree.leaves(grads)]
  return float(loss), np.concatenate(flat)


# ----------------------------------------------------------------- Speed ---


def time_ours(config: TrainConfig, seconds: float) -> dict[str, float]:
  """Times the step that train.py would run.

  Returns:
    'seconds' of a step (median), 'tokens' of a batch, 'flops' by formula,
    'gib' that the program needs, 'compile' seconds.
  """
  plan = program.plan(config)
  step, tx, _, _ = program.training_step(plan)
  with jax.set_mesh(plan.mesh):
    state, batch = state_of(plan, tx), batch_of(plan)
    begin = time.perf_counter()
    compiled = step.lower(state, batch).compile()
    took = time.perf_counter() - begin
    memory = compiled.memory_analysis()

    def call():
      nonlocal state
      state, metrics = compiled(state, batch)
      return metrics

    times = _times(call, jax.block_until_ready, seconds)
  work = analytic.workload(plan.architecture, plan.task.head, batch)
  return {
    'seconds': statistics.median(times),
    'tokens': work.tokens,
    'flops': analytic.model_flops(work),
    'gib': (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**30,
    'compile': took,
  }


def _times(
  call: Callable[[], Any], wait: Callable[[Any], Any], seconds: float
) -> list[float]:
  """Times calls of a step, five in a row, as a run has them."""
  for _ in range(3):
    wait(call())
  times: list[float] = []
  end = time.perf_counter() + seconds
  while len(times) < 3 or time.perf_counter() < end:
    begin = time.perf_counter()
    for _ in range(5):
      result = call()
    wait(result)
    times.append((time.perf_counter() - begin) / 5)
  return times


def time_theirs(
  case: str, scale: Scale, seconds: float, device: str
) -> dict[str, float]:
  """Times a step of transformers' model with SDPA and torch.compile."""
  import torch
  import transformers

  batch, length, predictions = scale.cases[case]
  c = transformers.MobileBertConfig(
    **{**scale.model, 'vocab_size': scale.vocabulary},
    attention_probs_dropout_prob=0.0,
    hidden_dropout_prob=0.0,
    num_labels=3,
    attn_implementation='sdpa',
  )
  head = (
    transformers.MobileBertForSequenceClassification
    if predictions is None
    else transformers.MobileBertForMaskedLM
  )
  model = head(c).to(device).train()
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=1e-4, fused=device == 'cuda'
  )
  forward = torch.compile(model, dynamic=False)
  rng = np.random.default_rng(0)
  ids = rng.integers(5, scale.vocabulary, (batch, length))
  labels: np.ndarray = rng.integers(0, 3, batch)
  if predictions is not None:
    labels = np.full((batch, length), -100)
    labels[:, :predictions] = ids[:, :predictions]
  inputs = {
    'input_ids': torch.from_numpy(ids).to(device),
    'attention_mask': torch.ones(batch, length, dtype=torch.int64).to(device),
    'labels': torch.from_numpy(labels).to(device),
  }

  def call():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device, dtype=torch.bfloat16):
      loss = forward(**inputs).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss

  def wait(loss):
    if device == 'cuda':
      torch.cuda.synchronize()

  begin = time.perf_counter()
  wait(call())
  took = time.perf_counter() - begin
  times = _times(call, wait, seconds)
  peak = torch.cuda.max_memory_allocated() / 2**30 if device == 'cuda' else 0.0
  return {
    'seconds': statistics.median(times),
    'tokens': batch * length,
    'gib': peak,
    'compile': took,
  }


def arms(case: str, scale: Scale) -> Iterator[tuple[str, TrainConfig]]:
  """Yields what is timed of ours."""
  make = functools.partial(config_of, case, scale)
  yield 'ours, XLA', make()
  yield 'ours, fused', make(attention='fused')
  yield 'ours, XLA, remat=attention', make(remat='attention')
  yield 'ours, XLA, dropout 0.1', make(dropout=0.1)


def speed(scale: Scale, peak: float | None) -> Iterator[str]:
  """Yields the lines of the table of steps."""
  has_torch, why = _find_torch()
  yield (
    'Training steps in bfloat16, AdamW with clipping, no dropout but where it '
    'is named; MFU by the formula of model FLOPs.'
  )
  yield ''
  yield (
    '| case | | step, ms | tokens/s | MFU | GiB | compiled in, s '
    '| speed, transformers = 1 |'
  )
  yield '|---|---|--:|--:|--:|--:|--:|--:|'
  for case, (batch, length, _) in scale.cases.items():
    title = f'{case} {batch} x {length}'
    baseline = None
    if has_torch:
      device = 'cuda' if _is_gpu() else 'cpu'
      baseline = time_theirs(case, scale, scale.seconds, device)
      name = 'transformers, SDPA, torch.compile'
      yield _row(title, name, baseline, None, baseline)
    flops = None
    for name, config in arms(case, scale):
      try:
        measured = time_ours(config, scale.seconds)
      except (InputError, jax.errors.JaxRuntimeError) as error:
        text = ' '.join(str(error).split())[:120]
        yield f'| {title} | {name} | {text} | | | | | |'
        continue
      flops = measured['flops']
      yield _row(title, name, measured, peak, baseline)
      gc.collect()
    if flops is None:
      yield f'| {title} | none of ours ran | | | | | | |'
  if not has_torch:
    yield ''
    yield f'transformers was not measured: {why}.'


def _row(
  title: str,
  name: str,
  measured: Mapping[str, float],
  peak: float | None,
  baseline: Mapping[str, float] | None,
) -> str:
  seconds = measured['seconds']
  mfu = '-'
  if peak is not None and 'flops' in measured:
    mfu = f'{measured["flops"] / seconds / peak:.1%}'
  ratio = '-' if baseline is None else f'{baseline["seconds"] / seconds:.2f}'
  return (
    f'| {title} | {name} | {1e3 * seconds:.1f} '
    f'| {measured["tokens"] / seconds:,.0f} | {mfu} | {measured["gib"]:.2f} '
    f'| {measured["compile"]:.0f} | {ratio} |'
  )


def _find_torch() -> tuple[bool, str]:
  """Returns whether transformers can be measured here, and why not."""
  for name in ('torch', 'transformers'):
    if importlib.util.find_spec(name) is None:
      return False, f'{name} is not installed'
  import torch

  if _is_gpu() and not torch.cuda.is_available():
    return False, 'the installed torch has no CUDA'
  return True, ''


def _is_gpu() -> bool:
  return jax.default_backend() == 'gpu'


# --------------------------------------------------------------- Profile ---


def profile(config: TrainConfig, directory: pathlib.Path) -> list[str]:
  """Traces three steps and tells the costliest kernels."""
  plan = program.plan(config)
  step, tx, _, _ = program.training_step(plan)
  with jax.set_mesh(plan.mesh):
    state, batch = state_of(plan, tx), batch_of(plan)
    compiled = step.lower(state, batch).compile()
    state, _ = jax.block_until_ready(compiled(state, batch))
    with jax.profiler.trace(str(directory)):
      for _ in range(3):
        state, _ = compiled(state, batch)
      jax.block_until_ready(state)
  traces = sorted(directory.rglob('*.xplane.pb'))
  if not traces:
    return ['The profiler wrote no trace.']
  total: dict[str, float] = {}
  data = jax.profiler.ProfileData.from_file(str(traces[-1]))
  for plane in data.planes:
    if not plane.name.startswith('/device:GPU'):
      continue
    for line in plane.lines:
      if not line.name.startswith('Stream'):
        continue
      for event in line.events:
        total[event.name] = total.get(event.name, 0.0) + event.duration_ns
  if not total:
    return [f'No GPU in the trace ({len(list(data.planes))} planes).']
  whole = sum(total.values())
  lines = [
    f'Kernels of a step, {whole / 3e6:.1f} ms in all:',
    '',
    '| kernel | ms | share |',
    '|---|--:|--:|',
  ]
  for name, duration in sorted(total.items(), key=lambda pair: -pair[1])[:15]:
    lines.append(
      f'| {name[:80]} | {duration / 3e6:.2f} | {duration / whole:.1%} |'
    )
  return lines


# ----------------------------------------------------------- Pre-training ---


def pretrain(
  minutes: float,
  records: str,
  tokenizer: str,
  init: str,
  scale: Scale,
  out: pathlib.Path,
  batch_size: int,
  length: int,
) -> list[str]:
  """Trains for some minutes and saves the weights in small files."""
  end = time.perf_counter() + 60 * minutes
  timed = config_of('pre-training', scale)
  timed = dataclasses.replace(
    timed,
    batch_size=batch_size,
    data=dataclasses.replace(timed.data, max_length=length),
  )
  measured = time_ours(timed, min(scale.seconds, 3.0))
  left = end - time.perf_counter()
  steps = max(10, int(_TRAINING_SHARE * left / measured['seconds']))
  _, _, predictions = scale.cases['pre-training']
  config = settings.to_train_config(
    settings.config_dict(
      task='pretraining',
      init=init,
      tokenizer=tokenizer,
      model={**scale.model} if init == 'scratch' else {},
      data={
        'source': 'files', 'path': records, 'max_length': length,
        'batching': 'padded', 'eval_examples': 512,
      },
      options={'max_predictions_per_sequence': predictions},
      optimizer={
        'learning_rate': 1e-3, 'warmup_steps': max(1, steps // 10),
        'weight_decay': 0.01,
      },
      batch_size=batch_size,
      eval_batch_size=batch_size,
      num_steps=steps,
      dtype='bfloat16',
    )
  )  # fmt: skip
  run = setup.build(config, Workdir(files.path(out / 'run')), False, SUPERVISED)
  lines, losses = [], []
  with jax.set_mesh(run.mesh):
    state = setup.first_state(run)
    batches = loader.Prefetch(
      run.batches, functools.partial(mesh.put_batch, mesh=run.mesh)
    )
    begin = time.perf_counter()
    for number in range(1, steps + 1):
      state, metrics = run.method.step(number)(state, next(batches))
      if number == 1 or number % 50 == 0 or number == steps:
        losses.append((number, float(metrics['loss'])))
        print(f'step {number} of {steps}: loss {losses[-1][1]:.3f}', flush=True)
        if time.perf_counter() > end:
          lines.append(f'The time was over after {number} of {steps} steps.')
          break
    seconds = time.perf_counter() - begin
    save_pretrained(
      out / 'model', run.start.model, jax.device_get(state.params),
      run.start.tokenizer, max_shard_size=_SHARD, dtype='bfloat16',
    )  # fmt: skip
  tokens = number * batch_size * length
  lines.append(
    f'{number} steps of {batch_size} x {length} in {seconds:.0f} s, '
    f'{tokens / seconds:,.0f} tokens/s; loss {losses[0][1]:.3f} to '
    f'{losses[-1][1]:.3f}; weights in {out / "model"}.'
  )
  return lines


# ------------------------------------------------------------------ Frame ---


def plan_text(args: argparse.Namespace, scale: Scale) -> str:
  """Returns what would run, and the minutes that it may take."""
  parts = [('start of jax and CUDA', 0.5)]
  if args.pretrain is None:
    parts.append(('correctness: three gradients of (64, 512)', 1.2))
    compiled = {'fine-tuning': 0.5, 'pre-training': 0.6}
    has_torch, why = _find_torch()
    for case in scale.cases:
      names = [name for name, _ in arms(case, scale)]
      minutes = len(names) * (compiled[case] + scale.seconds / 60)
      parts.append((f'{case}: {"; ".join(names)}', minutes))
      if has_torch:
        parts.append((f'{case}: transformers', 1.0))
    if not has_torch:
      parts.append((f'transformers: left out, {why}', 0.0))
    parts.append(('profile of a fine-tuning step', 0.7))
  else:
    parts.append(('pre-training, saving included', args.pretrain))
  lines = [f'{minutes:5.1f} min  {name}' for name, minutes in parts]
  total = sum(minutes for _, minutes in parts)
  return '\n'.join([*lines, f'{total:5.1f} min  in all, estimated'])


def machine(peak: float | None) -> str:
  """Returns what it runs on, in one line."""
  device = jax.devices()[0]
  at_peak = 'unknown' if peak is None else f'{peak / 1e12:.0f} TFLOP/s'
  return (
    f'{device.device_kind}, {at_peak} in bfloat16, jax {jax.__version__}, '
    f'{device.client.platform_version.splitlines()[0]}'
  )


def peak_of(kind: str) -> float | None:
  """Returns the bfloat16 peak of a kind of GPU; None if it is not known."""
  return next((peak for name, peak in PEAKS.items() if name in kind), None)


def write_results(text: str, page: pathlib.Path):
  """Puts the text between the marks of the page."""
  before, begin, rest = page.read_text().partition(_BEGIN)
  _, end, after = rest.partition(_END)
  if not (begin and end):
    raise InputError(f'{page} has no {_BEGIN} and {_END}.')
  page.write_text(f'{before}{_BEGIN}\n{text}\n{_END}{after}')


def main(argv: list[str] | None = None):
  """Runs what is asked for."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--out', type=pathlib.Path, default='gpu_results')
  parser.add_argument('--write', action='store_true')
  parser.add_argument('--plan', action='store_true')
  parser.add_argument('--toy', action='store_true')
  parser.add_argument('--pretrain', type=float, metavar='MINUTES')
  parser.add_argument('--records')
  parser.add_argument('--tokenizer')
  parser.add_argument('--init', default='scratch')
  parser.add_argument('--length', type=int, default=128)
  parser.add_argument('--batch_size', type=int, default=256)
  args = parser.parse_args(argv)
  scale = TOY if args.toy else FULL
  if args.plan:
    print(plan_text(args, scale))
    return
  if not _is_gpu() and not args.toy:
    raise SystemExit('There is no GPU here; --toy runs it all on a CPU.')
  if args.pretrain is not None and not (args.records and args.tokenizer):
    raise SystemExit('--pretrain needs --records and --tokenizer.')
  args.out.mkdir(parents=True, exist_ok=True)
  peak = peak_of(jax.devices()[0].device_kind)
  lines: list[str] = []

  def tell(line: str):
    lines.append(line)
    print(line, flush=True)
    (args.out / 'results.md').write_text('\n'.join(lines) + '\n')

  tell(machine(peak))
  tell('')
  if args.pretrain is not None:
    for line in pretrain(
      args.pretrain, args.records, args.tokenizer, args.init, scale, args.out,
      args.batch_size, args.length,
    ):  # fmt: skip
      tell(line)
    return
  for line in correctness(scale):
    tell(line)
  tell('')
  for line in speed(scale, peak):
    tell(line)
  tell('')
  for line in profile(config_of('fine-tuning', scale), args.out / 'profile'):
    tell(line)
  if args.write:
    write_results('\n'.join(lines), _RESULTS)


if __name__ == '__main__':
  main()
