"""How the weights of the embedded SAM2 came about: scenes, prompts, losses, stages, and what is measured at the end.

`python3 training_scripts/train_embedded_sam2.py --out FOLDER` runs all of it. Nothing here is needed to use the model.
"""
