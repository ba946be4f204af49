"""The only room that knows verl: where an episode is hosted, trained on and checkpointed."""
