"""What a study has cost: the records of its trainings and scores, and the rest of its commands."""
