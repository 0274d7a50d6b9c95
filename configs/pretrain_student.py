"""Pre-training of MobileBERT without a teacher: the control.

Command:  python train.py --config=configs/pretrain_student.py \
            --config.data.path=DATA --config.tokenizer=VOCAB
Hardware: a TPU slice; docs/explanation/scaling.md.
DATA as in configs/pretrain_teacher.py. The settings are those that
google-research's README gives for the last stage of the student: LAMB, batches
of 2,048 sequences of 512 tokens with 20 predictions, 500,000 steps. What it
learns without a teacher is what configs/distill_*.py must surpass. The backward
pass recomputes most of the blocks (`remat`): by tpu_compile that makes the step
shorter on every slice tried, from 12.5 to 4.6 ms on v5e:16x16.

Variants:
  tiny   MobileBERT_TINY, the paper's smaller student
  small  a student of 4 blocks of 32 for two CPU cores, 64 tokens; AdamW
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  full = {
    '': config.MobileBertConfig.mobilebert(),
    'tiny': config.MobileBertConfig.mobilebert_tiny(),
  }
  variants = {
    name: config.presets.pretraining(
      model=config.presets.model_settings(architecture), remat='narrow'
    )
    for name, architecture in full.items()
  }
  variants['small'] = config.presets.small_pretraining(
    model=config.presets.model_settings(config.presets.small_student())
  )
  return config.config_dict(**config.choose(variant, variants))
