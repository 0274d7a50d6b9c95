"""What is left of a model with half and a quarter of its blocks.

  pip install -e '.[onnx]'
  python benchmarks/fewer_blocks.py --task=sst2 --data=SST-2 --tokenizer=VOCAB
      --workdir=DIR [--arms=all,half,...] [--seed=0] [--config.a.b=value]
  python benchmarks/fewer_blocks.py --task=entailment --workdir=DIR [...]

SST-2 is the directory of the official files. 10,000 rows of its training set
are kept out and judge, beside its development set; many of them are parts of
the same sentences as rows that are trained on, so they are easier than that.
Entailment is the quickstart's task, which only a comparison of two sentences
solves; 10,000 pairs judge.

A small model is trained. Each arm then begins with some of its blocks
(`config.init_layers`) and takes equally many steps with the same settings:
fine-tuned alone, or with the whole model as its teacher (of labels alone, or
also of feature maps and attention of the blocks that are left). 'again' is all
blocks, fine-tuned for as long: what the steps alone bring. Each is exported to
ONNX, in float and with 8 bits, and scored in onnxruntime; differences to all
blocks have 95% intervals of a paired bootstrap. 'before' is the score of the
blocks as they were taken, before any step.

Whatever is finished in DIR is a row of table.md, so the same command continues,
and several with arms of their own may run at once behind --arms=all.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import bootstrap
import hold_out
import numpy as np
import side_by_side

from mobilebert_jax.config import configure
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.experiments import trial
from mobilebert_jax.export import onnx
from mobilebert_jax.export.options import ExportOptions
from mobilebert_jax.export.run import export
from mobilebert_jax.reporting import markdown
from mobilebert_jax.runtime import files
from mobilebert_jax.training import setup
from mobilebert_jax.training.workdir import Workdir

# For minutes of one core: narrow blocks, and no text is seen often enough for
# dropout.
SST2 = (
  '--config.model.hidden_size=64',
  '--config.model.embedding_size=32',
  '--config.model.intra_bottleneck_size=32',
  '--config.model.intermediate_size=64',
  '--config.model.num_hidden_layers=8',
  '--config.model.hidden_dropout_prob=0.0',
  '--config.model.attention_probs_dropout_prob=0.0',
  '--config.data.max_length=32',
  '--config.data.buckets=(16,32)',
  '--config.eval_batch_size=256',
  '--config.num_epochs=none',
  '--config.num_steps=1200',
  '--config.eval_every=100000',
  '--config.log_every=100',
  '--config.options.predict_test=False',
  '--config.distillation.teacher_dtype=float32',
)
ENTAILMENT = (
  '--config.model.num_hidden_layers=4',
  '--config.data.max_length=32',
  '--config.data.buckets=(32,)',
  '--config.data.eval_examples=10000',
  '--config.num_steps=3000',
  '--config.eval_every=100000',
  '--config.log_every=100',
  '--config.distillation.teacher_dtype=float32',
)
# Task -> its config, and what is different here.
TASKS = {
  'sst2': ('configs/glue_sst2.py:small_no_norm', SST2),
  'entailment': ('configs/quickstart.py', ENTAILMENT),
}
STUDENT_STEPS = 500
# Means and variances of hidden states are left out: without a norm, they have
# no common scale from which a factor could be chosen.
BLOCKS: Mapping[str, Any] = {
  'strategy': 'auxiliary',
  'feature_map': 1.0,
  'attention': 1.0,
  'mean': 0.0,
  'variance': 0.0,
}
LABELS: Mapping[str, Any] = {'strategy': 'none'}
LENGTH = 32
# File of an export -> the column of the table.
FILES = {onnx.FILES[None]: 'float', onnx.FILES['dynamic']: 'int8'}


class Arm(NamedTuple):
  """A model of the table.

  Attributes:
    part: the whole has so many times its blocks; 0: it is the whole.
    taught: what it learns from the whole; None: nothing.
    told: its name in the table.
  """

  part: int
  taught: Mapping[str, Any] | None
  told: str


ARMS = {
  'all': Arm(0, None, 'all blocks'),
  'again': Arm(1, None, 'all, trained as long as those below'),
  'half': Arm(2, None, 'half, fine-tuned'),
  'half-labels': Arm(2, LABELS, 'half, distilled, labels alone'),
  'half-taught': Arm(2, BLOCKS, 'half, distilled'),
  'quarter': Arm(4, None, 'a quarter, fine-tuned'),
  'quarter-labels': Arm(4, LABELS, 'a quarter, distilled, labels alone'),
  'quarter-taught': Arm(4, BLOCKS, 'a quarter, distilled'),
}


def config_of(name: str, whole: TrainConfig, root: pathlib.Path) -> TrainConfig:
  """Returns the run of an arm."""
  arm = ARMS[name]
  if not arm.part:
    return whole
  blocks = whole.model['num_hidden_layers'] // arm.part
  model = {**whole.model, 'num_hidden_layers': blocks}
  teacher = root / 'all'
  distillation = whole.distillation
  if arm.taught is not None:
    distillation = dataclasses.replace(
      distillation, teacher=str(teacher), **arm.taught
    )
  return dataclasses.replace(
    whole,
    init=str(Workdir(teacher).model),
    init_layers=blocks,
    model=model,
    num_steps=STUDENT_STEPS,
    distillation=distillation,
  )


def score(config: TrainConfig, root: pathlib.Path, name: str):
  """Exports a finished run, and keeps what each of its files predicts."""
  target = root / f'{name}.npz'
  if target.exists():
    return
  exported = root / f'{name}-onnx'
  options = ExportOptions(
    model=str(root / name),
    format='onnx',
    output=str(exported),
    quantize='dynamic',
    force=True,
  )
  export(options)
  task, workdir = setup.find_task(config), Workdir(root / name)
  tokenizer = workdir.read_tokenizer()
  held_out = setup.load_split(config, task, tokenizer, 'validation')
  labels = {kind: np.zeros(len(held_out.features), int) for kind in FILES}
  for kind, predicted in labels.items():
    runtime = onnx.Loaded(exported / 'onnx' / kind)
    for batch, placement in loader.eval_batches(
      held_out.features,
      batch_size=config.eval_batch_size,
      batching=config.data.batching,
      buckets=config.data.buckets,
    ):
      logits = runtime(batch)['logits'][placement.rows]
      predicted[placement.examples] = logits.argmax(-1)
  truth = np.array([example.label for example in held_out.examples])
  with files.replacing(target) as partial, open(partial, 'wb') as file:
    np.savez(file, truth=truth, **labels)


def seconds(paths: Mapping[str, pathlib.Path], words: int) -> dict[str, float]:
  """Returns the least time of a sentence on one thread, calls in turns.

  The least, for what else the machine does can only add to it.

  Args:
    paths: ONNX files by name.
    words: tokens of the vocabulary.
  """
  ids = np.random.default_rng(0).integers(5, words, (1, LENGTH))
  inputs = {
    'input_ids': ids,
    'attention_mask': np.ones_like(ids),
    'token_type_ids': np.zeros_like(ids),
  }

  def call(path: pathlib.Path):
    runtime = onnx.Loaded(path, threads=1)
    return lambda: runtime(inputs)

  contenders: dict[str, Any] = {name: call(p) for name, p in paths.items()}
  times = side_by_side.measure(contenders, rounds=300, budget_s=30)
  return {name: min(values) for name, values in times.items()}


def before(workdir: Workdir) -> str:
  """Returns what a run scored before its first step."""
  results = workdir.read_results()
  assert results is not None
  return f'{results["first"]["validation/accuracy"]:.4f}'


def lines(root: pathlib.Path, words: int) -> list[str]:
  """Returns the table of what is finished, as Markdown.

  Args:
    root: the directory of all arms.
    words: tokens of the vocabulary.
  """
  done = [name for name in ARMS if (root / f'{name}.npz').exists()]
  paths = {
    f'{name} {kind}': root / f'{name}-onnx' / 'onnx' / kind
    for name in done
    for kind in FILES
  }
  times = seconds(paths, words)
  found = {name: np.load(root / f'{name}.npz') for name in done}
  first = found['all']
  right = {
    f'{name} {kind}': (labels[kind] == first['truth']).astype(float)
    for name, labels in found.items()
    for kind in FILES
  }
  judge = slice(None, hold_out.ROWS)
  base = right[f'all {onnx.FILES[None]}']

  def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean(one) - np.mean(other))

  rows = []
  for key, path in paths.items():
    name, kind = key.split()
    pair = right[key][judge], base[judge]
    against = ''
    if name != 'all' or kind != onnx.FILES[None]:
      low, high = bootstrap.interval(difference, *pair)
      against = f'{difference(*pair):+.4f} [{low:+.4f}, {high:+.4f}]'
    config = Workdir(root / name).read_model_config()
    dev = right[key][hold_out.ROWS :]
    rows.append([
      ARMS[name].told,
      str(config.num_hidden_layers),
      FILES[kind],
      before(Workdir(root / name)) if ARMS[name].part else '',
      f'{right[key][judge].mean():.4f}',
      against,
      f'{dev.mean():.4f}' if len(dev) else '',
      f'{path.stat().st_size / 1e6:.2f}',
      f'{1e3 * times[key]:.2f}',
    ])  # fmt: skip
  header = [
    'model', 'blocks', 'weights', 'before', 'kept out', 'against all blocks',
    'dev', 'MB', 'ms',
  ]  # fmt: skip
  return markdown.table(header, rows, 'lrlrrlrrr')


def main():
  """Trains, exports and scores what is missing, and writes the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--task', choices=TASKS, required=True)
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  for name in ('data', 'tokenizer'):
    parser.add_argument(f'--{name}', type=pathlib.Path, help='of sst2')
  parser.add_argument('--arms', default=','.join(ARMS))
  parser.add_argument('--seed', type=int, default=0)
  args, overrides = parser.parse_known_args()
  root = args.workdir
  file, settings = TASKS[args.task]
  given = [*settings, f'--config.seed={args.seed}']
  if args.task == 'sst2':
    if args.data is None or args.tokenizer is None:
      parser.error('--task=sst2 needs --data and --tokenizer')
    hold_out.split(args.data, root / 'data')
    given += [
      f'--config.tokenizer={args.tokenizer}',
      f'--config.data.path={root / "data"}',
      '--config.data.source=files',
      f'--config.data.cache_dir={root / "cache"}',
    ]
  whole = configure(file, (*given, *overrides))
  for name in args.arms.split(','):
    config = config_of(name, whole, root)
    trial.train(config, root / name, may_diverge=False)
    score(config, root, name)
  words = len(Workdir(root / 'all').read_tokenizer())
  print(side_by_side.machine())
  told = lines(root, words)
  print('\n'.join(told))
  files.write_text(root / 'table.md', '\n'.join(told) + '\n', unique=True)


if __name__ == '__main__':
  main()
