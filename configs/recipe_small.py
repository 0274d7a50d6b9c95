"""From text to a fine-tuned student on a laptop, in less than half an hour.

Command:  python -m mobilebert_jax.recipe --config=configs/recipe_small.py \
            --text=TEXTS --task_data=SST-2 --workdir=DIR
Hardware: two CPU cores.
TEXTS is a text file or a directory of them (*.txt, *.jsonl, also gzipped), some
tens of megabytes; SST-2 is the directory of that task's official files.

A vocabulary of 4,096 tokens, a teacher of 4 blocks of 128, and a student of 4
blocks of 32 that learns from it: first layer by layer (progressive knowledge
transfer), then from its probabilities. All is small; the steps are the paper's.
The vocabulary has neither capitals nor accents; where they tell words apart,
as in German or French, add --config.vocabulary.do_lower_case=False.

Variants:
  custom       ends in a classification of your own texts: --task_data is then a
               directory with train.csv (.tsv, .jsonl) as for
               configs/custom_classification.py, whose columns are named with
               --config.fine_tuned.options.text_column=review and the like
  pretraining  ends with the student; there is no --task_data
"""

from mobilebert_jax import config

# Variant -> the task at the end.
TASKS = {'': 'sst2', 'custom': 'custom_classification', 'pretraining': None}


def get_recipe(variant: str = ''):
  task = config.choose(variant, TASKS)
  data = {
    'source': 'files',
    'path': '{data}',
    'max_length': 64,
    'batching': 'padded',
    'eval_examples': 2_000,
  }
  common = {'tokenizer': '{vocabulary}', 'data': data}
  teacher = config.presets.small_pretraining(
    **common,
    model=config.presets.model_settings(config.presets.small_teacher()),
    num_steps=3_500,
    eval_every=500,
  )
  student = config.presets.small_pretraining(
    **common,
    model=config.presets.model_settings(config.presets.small_student()),
    distillation={
      'teacher': '{teacher}',
      'strategy': 'progressive',
      'transfer_steps': 600,
    },
    num_steps=1_800,
    eval_every=300,
  )
  fine_tuned = {
    'task': task,
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
  runs = {'teacher': teacher, 'student': student}
  if task is not None:
    runs['fine_tuned'] = fine_tuned
  return {
    'vocabulary': {'size': 4_096, 'characters': 20_000_000},
    # Whole blocks are held out: of tens of megabytes, not of one or two blocks.
    'data': {'max_length': 64, 'block_size': 1_000_000},
    'runs': {name: config.config_dict(**run) for name, run in runs.items()},
  }
