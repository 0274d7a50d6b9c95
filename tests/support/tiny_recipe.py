"""A recipe of a few seconds: its file, its text, its command line."""

import pathlib
from collections.abc import Sequence

from mobilebert_jax.config import command_line
from mobilebert_jax.experiments.recipe import chain, checks, recipe
from tests.support import pretraining_text

# A vocabulary, a teacher and a student of two layers, and a task whose data
# the project makes by itself.
FILE = """
from mobilebert_jax import config

MODEL = {
  'hidden_size': 16, 'intra_bottleneck_size': 16, 'embedding_size': 8,
  'num_hidden_layers': 2, 'num_attention_heads': 2, 'intermediate_size': 16,
  'num_feedforward_networks': 1, 'max_position_embeddings': 32,
}


def get_recipe(variant=''):
  config.choose(variant, {'': None, 'other': None})
  common = dict(
    task='pretraining', tokenizer='{vocabulary}', batch_size=8,
    eval_batch_size=32, checkpoint_every=2, eval_every=8, log_every=1,
    data={
      'source': 'files', 'path': '{data}', 'max_length': 24,
      'batching': 'padded', 'eval_examples': 32,
    },
    optimizer={'name': 'lamb', 'learning_rate': 0.01},
  )
  student = MODEL | {'intra_bottleneck_size': 8}
  taught = {
    'teacher': '{teacher}', 'strategy': 'progressive', 'transfer_steps': 8
  }
  return {
    'vocabulary': {'size': 300},
    'data': {'max_length': 24, 'block_size': 2000},
    'runs': {
      'teacher': config.config_dict(**common, model=MODEL, num_steps=8),
      'student': config.config_dict(
        **common, model=student, num_steps=16, distillation=taught
      ),
      'fine_tuned': config.config_dict(
        task='entailment', init='{student}', batch_size=8, num_steps=6,
        eval_every=3, checkpoint_every=2, eval_batch_size=100,
        data={
          'source': 'generated', 'max_length': 32, 'train_examples': 64,
          'eval_examples': 100, 'buckets': (32,),
        },
      ),
    },
  }
"""
RUNS = ('teacher', 'student', 'fine_tuned')


def write(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes the recipe's file and its text."""
  folder.mkdir(exist_ok=True)
  (folder / 'recipe.py').write_text(FILE)
  text = folder / 'text'
  text.mkdir()
  for seed in range(2):
    pretraining_text.write_text(text / f'{seed}.jsonl', 6, seed=seed)
  return folder / 'recipe.py', text


def arguments(
  given: tuple[pathlib.Path, pathlib.Path], workdir: pathlib.Path, *more: str
) -> list[str]:
  """The command's, for the files that `write` gave."""
  file, text = given
  return [
    f'--config={file}', f'--text={text}', f'--workdir={workdir}',
    '--workers=1', *more,
  ]  # fmt: skip


def load(
  file: str | pathlib.Path, overrides: Sequence[str] = ()
) -> recipe.Recipe:
  """The recipe of a file with overrides."""
  return recipe.load(str(file), command_line.assignments(overrides))


def checked(
  loaded: recipe.Recipe, given: chain.Given
) -> dict[str, checks.CheckedRun]:
  """Its runs, as the plan gets them."""
  return checks.check_runs(loaded, chain.resolve_runs(loaded, given))
