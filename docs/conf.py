"""Settings of the documentation: `python -m sphinx -W --keep-going -b html docs build/docs`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extension"), str(HERE.parent)]

project = "genie-onnx"
author = "genie-onnx"
project_copyright = "Apache-2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_line",
    "file_list",
    "import_table",
    "mathml",
    "plain_tables",
    "settings",
    "target_rows",
]
exclude_patterns = ["extension"]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = "genie-onnx"
html_copy_source = False
html_show_sphinx = False

# Headings to which links may lead, as GitHub makes them, so that one link is good in both places
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]

# Public names are taken from the package, where they are documented as they are used: genie_onnx.quantize
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
