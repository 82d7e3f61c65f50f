"""Is this machine ready? Each part of an installation examined in a Python of its own: what is broken there is a finding."""

from genie_onnx.environment.doctor import doctor
from genie_onnx.environment.finding import Finding, Level

__all__ = ["Finding", "Level", "doctor"]
