"""Teach vision-language models to segment places by their social meaning, by reinforcement with visual feedback."""
