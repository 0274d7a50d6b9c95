"""MobileBERT by progressive knowledge transfer, then distillation.

Command:  python train.py --config=configs/distill_progressive.py \
            --config.distillation.teacher=TEACHER --config.data.path=DATA
Hardware: a TPU slice (the authors: 256 TPU v3 chips);
docs/explanation/scaling.md.
TEACHER is the workdir of configs/pretrain_teacher.py (or another teacher that
fits), whose tokenizer is used. DATA as in that config.

The paper's best strategy (arXiv 2004.02984, section 3.4), with the settings of
google-research's README: 24 stages of 10,000 steps, in each of which one more
layer learns the teacher's feature maps and attention; then 500,000 steps of
masked words, half by the data and half by the teacher's probabilities, and next
sentences. Every factor and every option: mobilebert_jax/config/distillation.py.

With mesh.fsdp for a large teacher, the student may stay whole on each device:
--config.mesh.param_sharding=replicated.

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
    **config.choose(variant, config.presets.distillation('progressive'))
  )
