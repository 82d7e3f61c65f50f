"""`python -m genie_onnx` is `genie-onnx`, where that script is not on the PATH: the one door from the package to the cli."""

from genie_onnx_cli.main import main

if __name__ == "__main__":
    main(prog_name="genie-onnx")
