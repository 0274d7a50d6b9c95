"""A first run: generated sentences, a small model, no network.

Command:  python train.py --config=configs/quickstart.py
Hardware: any laptop; two CPU cores are enough.

The task is entailment between sentences that the project makes by itself; the
wordings of training and evaluation are disjoint. The vocabulary is learnt from
the training sentences.
"""

from mobilebert_jax import cli


def get_config(variant: str = ''):
  settings = cli.choose(variant, {'': {}})
  return cli.config_dict(
    task='entailment',
    init='scratch',
    data={'source': 'generated', 'max_length': 64},
    model={
      'vocab_size': 600,
      'hidden_size': 128,
      'intra_bottleneck_size': 64,
      'embedding_size': 64,
      'num_hidden_layers': 3,
      'num_attention_heads': 4,
      'intermediate_size': 128,
      'num_feedforward_networks': 2,
      'max_position_embeddings': 64,
      'normalization_type': 'layer_norm',
      'hidden_dropout_prob': 0.0,
      'attention_probs_dropout_prob': 0.0,
    },
    optimizer={'learning_rate': 1e-3},
    batch_size=32,
    eval_batch_size=100,
    num_epochs=4.0,
    **settings,
  )
