"""A first run: generated sentences, a small model, no network.

Command:  python train.py --config=configs/quickstart.py
Hardware: any laptop; two CPU cores are enough.

The task is entailment between sentences that the project makes by itself; the
wordings of training and evaluation are disjoint. The vocabulary is learnt from
the training sentences.
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  settings = config.choose(variant, {'': {}})
  return config.config_dict(
    task='entailment',
    init='scratch',
    data={'source': 'generated', 'max_length': 32, 'train_examples': 32_000},
    model={
      'vocab_size': 300,
      'hidden_size': 64,
      'intra_bottleneck_size': 64,
      'embedding_size': 64,
      'num_hidden_layers': 2,
      'num_attention_heads': 4,
      'intermediate_size': 64,
      'num_feedforward_networks': 2,
      'max_position_embeddings': 32,
      'normalization_type': 'layer_norm',
      'classifier_activation': False,
      'initializer_range': 0.15,
      'attention_probs_dropout_prob': 0.0,
    },
    optimizer={'learning_rate': 3e-3, 'beta2': 0.98},
    batch_size=64,
    eval_batch_size=100,
    eval_every=300,
    num_steps=900,
    **settings,
  )
