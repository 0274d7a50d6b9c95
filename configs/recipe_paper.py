"""The paper's recipe: IB-BERT_LARGE, progressive transfer, MobileBERT.

Command:  python -m mobilebert_jax.recipe --config=configs/recipe_paper.py \
            --text=TEXTS --task_data=MNLI --workdir=DIR
Hardware: a TPU pod, the same command on every host (docs/guides/tpu.md), which
all see TEXTS and DIR; the authors used 256 TPU v3 chips.
docs/explanation/scaling.md and docs/explanation/distillation.md say what each
run needs.
The text of the paper is Wikipedia and BookCorpus; MNLI is the directory of that
task's official files.

A vocabulary of 30,522 tokens is learnt from the text; for English, BERT's own
is --config.vocabulary.tokenizer=google/mobilebert-uncased. It has neither
capitals nor accents; where they tell words apart, as in German or French, add
--config.vocabulary.do_lower_case=False. The teacher is that of
configs/pretrain_teacher.py, the student that of
configs/distill_progressive.py, whose docstrings say what the sources state and
what we chose; the fine-tuning is configs/glue_mnli.py's.

Variants: joint, auxiliary: the paper's other strategies.
"""

from mobilebert_jax import config


def get_recipe(variant: str = ''):
  strategies = {'': 'progressive', 'joint': 'joint', 'auxiliary': 'auxiliary'}
  strategy = config.choose(variant, strategies)
  teacher = config.presets.teacher_pretraining()
  student = config.presets.distillation(strategy)['']
  fine_tuned = {
    'task': 'mnli',
    'init': '{student}',
    'data': {
      'source': 'files',
      'path': '{task_data}',
      'max_length': 128,
      'buckets': (32, 48, 64, 96, 128),
    },
    'optimizer': {'learning_rate': 3e-5},
    'batch_size': 32,
    'eval_batch_size': 256,
    'num_epochs': 5.0,
    'dtype': 'bfloat16',
  }
  prepared = {'tokenizer': '{vocabulary}'}
  for run in (teacher, student):
    run['data'] = {**run['data'], 'path': '{data}'}
  student['distillation'] = {**student['distillation'], 'teacher': '{teacher}'}
  return {
    'vocabulary': {'size': 30_522},
    'data': {'max_length': 512},
    'runs': {
      'teacher': config.config_dict(**teacher, **prepared),
      'student': config.config_dict(**student, **prepared),
      'fine_tuned': config.config_dict(**fine_tuned),
    },
  }
