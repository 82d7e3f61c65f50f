"""`python -m genie_onnx`: the command `genie-onnx`, for where its script is not on the PATH. The one way from the package to the cli."""

from genie_onnx_cli.main import main

if __name__ == "__main__":
    main(prog_name="genie-onnx")
