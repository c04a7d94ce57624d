"""One module per family of operations; each enrols its rules when it is imported."""
