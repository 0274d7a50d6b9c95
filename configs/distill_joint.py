"""MobileBERT by joint knowledge transfer, then distillation.

Command:  python train.py --config=configs/distill_joint.py \
            --config.distillation.teacher=TEACHER --config.data.path=DATA
Hardware: a TPU slice; docs/explanation/scaling.md.
As configs/distill_progressive.py, but all layers learn from their teachers at
once, for as many steps (arXiv 2004.02984, section 3.4). google-research's code
has no such strategy: that all layers have the learning rate of its current
layer, over one stage, is our choice.

Variants:
  tiny   MobileBERT_TINY
  s, xs  students of 12 and 8 blocks that are 256 wide, with the steps of
         tensorflow/models' MobileBERT-EdgeTPU; every second or third layer of
         the teacher teaches (there 0, 2, ...; here 1, 3, ..., 23)
  small  a student of 4 blocks of 32 for two CPU cores, whose teacher is
         configs/pretrain_teacher.py:small
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  return config.config_dict(
    **config.choose(variant, config.presets.distillation('joint'))
  )
