"""A run of a pretrained model as a folder that transformers or peft opens."""
