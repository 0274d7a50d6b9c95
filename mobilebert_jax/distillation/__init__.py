"""Knowledge transfer and distillation: a student learns from a teacher.

To be read in this order:

  stages       which stage a step belongs to, and its learning rates
  teacher      the teacher: loaded, checked, in part copied
  method       what the training loop asks: optimizer, steps, messages
  objective    the loss of a stage: what both models compute, and its terms
  transfer     the part that compares the outputs of blocks
  soft_labels  the part that learns the task with the teacher's labels
  losses       each term, as a function of the two models' outputs
  blocks       runs a model piece by piece
  agreement    measures a student against its teacher (the command)
"""
