"""How good model files are on labelled samples."""
