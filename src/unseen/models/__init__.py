"""Networks as plain `torch.nn.Module`: they read no file, no environment and no clock."""
