"""Makes the golden numbers, with transformers in an environment of its own.

  pip install 'transformers==5.23.0' torch==2.13.0
  python tests/golden/make_golden.py       # writes golden_v5.npz
  pip install 'transformers==4.49.0' torch==2.13.0
  python tests/golden/make_golden.py       # writes golden_v4.npz

Version 5 gives every flag, head and kind of input. Version 4.49 gives what 5
has lost: head masks and three-dimensional attention masks. Each case
is stored as its digest (`cases.digest`): a random projection of every tensor.
"""

import pathlib
import sys

_HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parents[1]))

import numpy as np  # noqa: E402
import transformers  # noqa: E402

from tests.support import cases, torch_reference  # noqa: E402


def add(golden, case, model, features, labels):
  """Runs one case and stores its digest."""
  golden[case] = cases.digest(*torch_reference.run(model, features, labels))


def build(head, config):
  """The reference model of a head."""
  config = {**config, **cases.head_config(head)}
  if head == 'multi_label':
    config['problem_type'] = 'multi_label_classification'
  return config, torch_reference.build(cases.HEADS[head], config)


def version_5(golden):
  """Flags, activations, heads and kinds of input."""
  flags = cases.flag_cases()
  acts = cases.activation_cases(transformers.activations.ACT2FN)
  for name, changes in {**flags, **acts}.items():
    config, model = build('pretraining', {**cases.SMALL, **changes})
    features, labels = cases.inputs(config, 'pretraining')
    add(golden, f'flag/{name}', model, features, labels)
  for head in cases.HEADS:
    config, model = build(head, cases.SMALL)
    features, labels = cases.inputs(config, head)
    add(golden, f'head/{head}', model, features, labels)
  inputs(golden, lambda name: not name.startswith('v4'))


def version_4(golden):
  """Head masks and three-dimensional masks."""
  inputs(golden, lambda name: name.startswith('v4'))


def inputs(golden, wanted):
  """Kinds of input of the bare model."""
  _, model = build('model', cases.SMALL)
  for name, features in cases.input_cases(cases.SMALL).items():
    if wanted(name):
      add(golden, f'input/{name}', model, features, {})


def main():
  major = int(transformers.__version__.split('.')[0])
  golden = {}
  {4: version_4, 5: version_5}[major](golden)
  path = _HERE / f'golden_v{major}.npz'
  # One array for all: an entry of its own would cost more than its numbers.
  np.savez_compressed(
    path,
    names=np.array(list(golden)),
    lengths=np.array([len(row) for row in golden.values()]),
    numbers=np.concatenate(list(golden.values())),
    transformers=np.array(transformers.__version__),
  )
  print(f'{path}: {len(golden)} cases, {path.stat().st_size} bytes')


if __name__ == '__main__':
  main()
