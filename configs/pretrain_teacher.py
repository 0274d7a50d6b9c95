"""Pre-training of the teacher, IB-BERT_LARGE, from scratch.

Command:  python train.py --config=configs/pretrain_teacher.py \
            --config.data.path=DATA --config.tokenizer=VOCAB --workdir=TEACHER
Hardware: a TPU slice (the authors: 256 TPU v3 chips). By tpu_compile a step
needs 11.2 GiB on each chip of v5e:16x16, and all steps at least 0.5 days, 3,069
chip-hours; on fewer chips use --config.accumulation_steps, or remat=narrow.
DATA is text (*.txt, *.jsonl, also gzipped), or better, since it is far larger
than memory, what `python -m mobilebert_jax.pretraining_data` made of it, or
TFRecords of BERT's create_pretraining_data.py; docs/guides/pretraining_data.md.
TEACHER is then what `--config.distillation.teacher` takes.

The paper (arXiv 2004.02984, section 4) and google-research's configs state: the
architecture with its dropout, LAMB, batches of 4,096, 500,000 steps. They do
not state, and we chose what their README gives for the student: sequences of
512 tokens throughout with 20 predictions, the learning rate with its warm-up,
its line and its end, decay, clipping. Ours too: masking word pieces rather than
whole words, bfloat16, `remat` and how often is evaluated.

Variants:
  phase1  450,000 steps at 128 tokens, a quarter of the computation each
  phase2  50,000 steps at 512 tokens, from the model of phase1 in its own
          workdir, runs/pretrain_teacher_phase1; from another one:
          --config.init=WORKDIR/model
          Two ordinary runs, as BERT's authors did with nine tenths of the steps
          at 128. Moments and warm-up begin anew in the second one (You et al.,
          arXiv 1904.00962, section 4.1, find that it needs one). Prepare the
          text twice, for each length.
  small   a teacher of 4 blocks of 128 for two CPU cores, 64 tokens; AdamW
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  whole = config.presets.teacher_pretraining()
  short = {**whole['data'], 'max_length': 128}
  second = {**whole['optimizer'], 'warmup_steps': 5_000}
  variants = {
    '': whole,
    'phase1': {**whole, 'data': short, 'num_steps': 450_000},
    'phase2': {
      **whole,
      'init': 'runs/pretrain_teacher_phase1/model',
      'optimizer': second,
      'num_steps': 50_000,
    },
    'small': config.presets.small_pretraining(
      model=config.presets.model_settings(config.presets.small_teacher())
    ),
  }
  return config.config_dict(**config.choose(variant, variants))
