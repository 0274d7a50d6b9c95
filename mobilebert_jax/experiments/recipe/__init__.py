"""From text to a fine-tuned student; see `python -m mobilebert_jax.recipe`.

In the order of reading:
  recipe  what a recipe is, and how a config file and flags become one
  checks  what can be wrong with it, found before hours of work
  plan    what each run costs: steps, tokens, memory, computation
  data    what the runs learn from: a vocabulary and examples
  chain   the runs as an experiment
  report  what they have come to
"""
