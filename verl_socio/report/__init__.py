"""The verb `report`: what an evaluation found, for a person to read, and two evaluations against each other."""
