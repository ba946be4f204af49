"""Supervised warm start of the embedded vision-language model on the city's train split."""
