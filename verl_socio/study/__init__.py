"""Many trainings and evaluations from one plan, and the page of results that is written from what they leave."""
