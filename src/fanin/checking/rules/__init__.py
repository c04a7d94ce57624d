"""The rules, one file each; ``fanin.checking.selecting`` finds them."""
