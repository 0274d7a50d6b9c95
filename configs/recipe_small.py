"""From text to a fine-tuned student on a laptop, in less than half an hour.

Command:  python -m mobilebert_jax.recipe --config=configs/recipe_small.py \
            --text=TEXTS --task_data=SST-2 --workdir=DIR
Hardware: two CPU cores.
TEXTS is a text file or a directory of them (*.txt, *.jsonl, also gzipped), some
tens of megabytes; SST-2 is the directory of that task's official files.

A vocabulary of 4,096 tokens, a teacher of 4 blocks of 128, and a student of 4
blocks of 32 that learns from it: first layer by layer (progressive knowledge
transfer), then from its probabilities. All is small; the steps are the paper's.
"""

from mobilebert_jax import cli, recipes


def get_recipe(variant: str = ''):
  cli.choose(variant, {'': None})
  data = {
    'source': 'files',
    'path': '{data}',
    'max_length': 64,
    'batching': 'padded',
    'eval_examples': 2_000,
  }
  common = {'tokenizer': '{vocabulary}', 'data': data}
  teacher = recipes.small_pretraining(
    **common,
    model=recipes.model_settings(recipes.small_teacher()),
    num_steps=3_500,
    eval_every=500,
  )
  student = recipes.small_pretraining(
    **common,
    model=recipes.model_settings(recipes.small_student()),
    distillation={
      'teacher': '{teacher}',
      'strategy': 'progressive',
      'transfer_steps': 600,
    },
    num_steps=1_800,
    eval_every=300,
  )
  fine_tuned = {
    'task': 'sst2',
    'init': '{student}',
    'data': {
      'source': 'files',
      'path': '{task_data}',
      'max_length': 64,
      'buckets': (16, 32, 64),
    },
    'optimizer': {'learning_rate': 3e-4},
    'batch_size': 32,
    'num_epochs': 1.0,
  }
  return {
    'vocabulary': {'size': 4_096, 'characters': 20_000_000},
    'data': {'max_length': 64},
    'runs': {
      'teacher': cli.config_dict(**teacher),
      'student': cli.config_dict(**student),
      'fine_tuned': cli.config_dict(**fine_tuned),
    },
  }
