"""The user's images as tensors: picture folders, .npy and .npz in; float32 [N, C, H, W] in the model's input space out."""

from genie_onnx.data.files import PathLike, listed
from genie_onnx.data.preprocess import Preprocess
from genie_onnx.data.samples import Samples, load_images, load_labelled, open_images, open_labelled

__all__ = ["PathLike", "Preprocess", "Samples", "listed", "load_images", "load_labelled", "open_images", "open_labelled"]
