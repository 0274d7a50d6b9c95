"""Several runs: tasks of GLUE, a search, a recipe.

In the order of reading:
  trial       one run of several: started, continued, finished or diverged
  experiment  trials one after another below one workdir, and their report
  glue/       a trial for each task of GLUE, averages, the submission
  sweep/      a trial for each combination of values
  recipe/     from text to a fine-tuned student: each trial builds on another
"""
