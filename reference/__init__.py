"""The PyTorch side: twins of minifw's modules, and recipes that run on either framework."""
