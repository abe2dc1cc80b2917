"""What a learner scores. Evaluation only reads."""
