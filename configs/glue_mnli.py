"""MNLI of GLUE: does a premise entail or contradict a hypothesis, or neither?

Command:  python train.py --config=configs/glue_mnli.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the data comes from TFDS, or from the
official files with --config.data.source=files --config.data.path=DIR.
"""

from mobilebert_jax import cli


def get_config(variant: str = ''):
  settings = cli.choose(variant, {'': {}})
  return cli.config_dict(
    task='mnli',
    init='google/mobilebert-uncased',
    data={
      'source': 'tfds',
      'max_length': 128,
      'buckets': (32, 48, 64, 96, 128),
    },
    optimizer={'learning_rate': 3e-5},
    batch_size=32,
    eval_batch_size=64,
    num_epochs=4.0,
    eval_every=4000,
    **settings,
  )
