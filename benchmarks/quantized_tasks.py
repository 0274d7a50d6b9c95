"""A model of any task in few bits, rounded afterwards or trained for them.

  pip install -e '.[onnx,litert]'
  pip install --no-deps litert-converter
  python benchmarks/quantized_tasks.py --config=FILE --workdir=DIR
    [--config.a.b=value ...] [--seeds 0 1 2] [--steps=300]
    [--learning_rate=1e-4] [--taught] [--schemes int8 int4x8]
    [--formats onnx litert] [--kinds float16 dynamic int8 int8x16 int4x8]
    [--rows=20000]

Trains the config with each seed, and from it a run that learns with the
integers of each scheme (`config.quantization`) for so many steps; with
--taught, the float model is its teacher. Files of the float model and of these
runs are judged on the run's validation split in their own runtimes, beside the
float model.

Prints a Markdown table, with a column for each seed: the score minus that of
the float model in points with a 95% interval (paired bootstrap over examples),
decisions that agree, error of the logits over their deviation; of runs that
learnt, also how many decisions of a file are the run's. What is finished is not
done again, so the same command continues.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile

import judged
import quantization

from mobilebert_jax.config import configure
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.experiments import trial
from mobilebert_jax.export import ExportOptions, check, judge, serving
from mobilebert_jax.export import source as sources
from mobilebert_jax.export import texts as real_texts
from mobilebert_jax.reporting import markdown
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training.workdir import Workdir


def learning(
  config: TrainConfig, scheme: str, float_run: pathlib.Path,
  args: argparse.Namespace,
) -> TrainConfig:  # fmt: skip
  """The run that learns with a scheme's integers, from the float one."""
  optimizer = dataclasses.replace(
    config.optimizer, learning_rate=args.learning_rate
  )
  distillation = config.distillation
  if args.taught:
    distillation = dataclasses.replace(
      distillation, teacher=str(float_run), teacher_dtype='float32'
    )
  return dataclasses.replace(
    config,
    init=str(Workdir(float_run).model),
    init_layers=None,
    num_steps=args.steps,
    num_epochs=None,
    optimizer=optimizer,
    distillation=distillation,
    quantization=dataclasses.replace(config.quantization, scheme=scheme),
  )


def served_of(run: pathlib.Path, kind: str) -> serving.Served:
  """What is written of a run as a kind."""
  options = ExportOptions(
    str(run), 'onnx', 'nowhere', quantize=kind,
    calibration_examples=quantization.CALIBRATION,
  )  # fmt: skip
  source = sources.load(options)
  length = source.max_length
  texts = real_texts.for_calibration(
    source, None, quantization.CALIBRATION, length
  )
  rows = range(min(quantization.CALIBRATION, len(texts)))
  batches = list(texts.batches(rows, (length,)))
  return serving.prepare(options, source, batches, (length,), lambda line: None)


def judge_all(root: pathlib.Path, args: argparse.Namespace) -> dict[str, str]:
  """Returns how each file of a seed does, by its name."""
  options = ExportOptions(str(root / 'float'), 'onnx', 'nowhere')
  source = sources.load(options)
  data = judge.read(source, args.rows, source.max_length)
  assert isinstance(data, judge.Data), data
  model = judged.remembered(check.compiled(source))
  kept = root / 'judged.json'
  told = json.loads(kept.read_text('utf-8')) if kept.exists() else {}
  wanted = [('float', kind) for kind in args.kinds]
  wanted += [(scheme, scheme) for scheme in args.schemes]
  for run, kind in wanted:
    served = None
    for format in args.formats:
      name = f'{format}, {kind}{"" if run == "float" else ", learnt"}'
      if name in told:
        continue
      served = served or served_of(root / run, kind)
      with tempfile.TemporaryDirectory() as made:
        path = pathlib.Path(made) / 'file'
        try:
          quantization.write(
            format, kind, served.graph, served.quantization, path,
            source.max_length,
          )  # fmt: skip
          runtime = quantization.READERS[format](path)
        except InputError as error:
          told[name] = f'refused: {error}'
          continue
        judgement = judge.judge(source, model, runtime, data)
        told['float32'] = judged.score(data, judgement.kept['model'])
        told[name] = judged.cell(data, judgement)
        if served.learnt is not None:
          own = dataclasses.replace(served.source, model=served.learnt)
          beside = judge.judge(own, check.compiled(own), runtime, data)
          told[name] += f'; the run: {1 - beside.differ / beside.decided:.2%}'
        told[name] += f'; {path.stat().st_size / 1e6:.2f} MB'
      print(f'{root.name}: {name}: {told[name]}', flush=True)
      files.write_text(kept, json.dumps(told, indent=1))
  return told


def main():
  """Trains what is missing and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--config', required=True)
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
  parser.add_argument('--steps', type=int, default=300)
  parser.add_argument('--learning_rate', type=float, default=1e-4)
  parser.add_argument('--taught', action='store_true')
  parser.add_argument('--schemes', nargs='*', default=['int8', 'int4x8'])
  parser.add_argument('--formats', nargs='+', default=['onnx', 'litert'])
  parser.add_argument('--kinds', nargs='*', default=quantization.KINDS)
  parser.add_argument('--rows', type=int, default=20_000)
  args, overrides = parser.parse_known_args()
  found: dict[int, dict[str, str]] = {}
  for seed in args.seeds:
    root = args.workdir / f'seed_{seed}'
    config = configure(args.config, (*overrides, f'--config.seed={seed}'))
    trial.train(config, root / 'float', may_diverge=False)
    for scheme in args.schemes:
      learnt = learning(config, scheme, root / 'float', args)
      trial.train(learnt, root / scheme, may_diverge=False)
    found[seed] = judge_all(root, args)
  names = sorted({name for told in found.values() for name in told})
  rows = [
    [name, *(told.get(name, '') for told in found.values())] for name in names
  ]
  header = ['', *(f'seed {seed}' for seed in found)]
  lines = markdown.table(header, rows, 'l' * len(header))
  print('\n'.join(lines))
  files.write_text(args.workdir / 'table.md', '\n'.join(lines) + '\n')


if __name__ == '__main__':
  main()
