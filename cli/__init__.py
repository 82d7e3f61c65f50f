"""The command line, installed as `genie_onnx_cli`: one file a command; options -> config -> one call -> print."""
