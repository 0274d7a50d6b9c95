"""From texts to examples of tokens.

- `chunks`: what every encoder does: check the room, work in chunks
- `sequences`: documents as tokens, and which part goes into which sequence
- `masking`: which tokens are predicted, drawn anew in each epoch
"""
