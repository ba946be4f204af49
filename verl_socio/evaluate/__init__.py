"""The verb `evaluate`: how well a model finds places, by stage and by level, and what that rests on."""
