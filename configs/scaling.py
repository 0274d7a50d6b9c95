"""Masked language modelling at the size of pre-training, for TPU slices.

Command:  python train.py --config=configs/scaling.py:student \
            --config.data.path=TEXTS --config.tokenizer=VOCAB
Hardware: a TPU slice; docs/explanation/scaling.md says which, and its costs.
Variants, both from scratch in bfloat16:
  student  MobileBERT, 24 blocks of 128 in a stream of 512
  teacher  IB-BERT_LARGE, 24 blocks of 1024 in a stream of 512
2048 sequences of 512 tokens for 500,000 steps are what google-research's README
of MobileBERT gives for the student's last stage. There is no next-sentence
loss and no knowledge transfer here, and AdamW takes LAMB's place: these
configs are for measuring what a step costs.
"""

from mobilebert_jax import config


def get_config(variant: str = 'student'):
  architecture = {
    'student': config.MobileBertConfig.mobilebert(),
    'teacher': config.MobileBertConfig.ib_bert_large(),
  }
  chosen = config.choose(variant, architecture)
  model = {
    name: getattr(chosen, name)
    for name in (
      'vocab_size', 'classifier_activation', 'hidden_act',
      'hidden_dropout_prob', 'intermediate_size', 'intra_bottleneck_size',
      'key_query_shared_bottleneck', 'normalization_type',
      'num_feedforward_networks',
    )
  }  # fmt: skip
  return config.config_dict(
    task='masked_lm',
    model=model,
    data={
      'source': 'files',
      'path': 'data',
      'max_length': 512,
      'batching': 'padded',
    },
    options={'max_predictions_per_sequence': 20},
    optimizer={'learning_rate': 1e-4, 'warmup_steps': 10_000},
    batch_size=2048,
    eval_batch_size=512,
    num_steps=500_000,
    eval_every=10_000,
    dtype='bfloat16',
  )
