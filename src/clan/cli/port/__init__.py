"""The commands and flags of the PaddlePaddle 2.1 port."""
