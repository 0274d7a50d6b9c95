"""Knowledge transfer and distillation: a student learns from a teacher."""
