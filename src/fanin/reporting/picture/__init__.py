"""The picture of a plan: blocks from input to output, residual branches, repeats folded."""
