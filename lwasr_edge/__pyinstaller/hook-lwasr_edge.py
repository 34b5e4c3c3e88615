"""What PyInstaller cannot see: modules that are imported by name, the packaged model and language model."""

import lwasr_edge
from lwasr_edge.hub.catalog import packaged_models_dir
from lwasr_edge.hub.packaged import PACKAGED_MODEL, packaged_path

hiddenimports = sorted({f"lwasr_edge.{module}" for module in lwasr_edge._MODULE_OF.values()})
excludedimports = ["lwasr_edge.training", "lwasr_edge.export", "torch"]  # for training and export alone
datas = [
    (str(path), f"lwasr_edge/models/{PACKAGED_MODEL}")
    for pattern in ("*.int8.onnx.gz", "card.json", "card.md")
    for path in (packaged_models_dir() / PACKAGED_MODEL).glob(pattern)
]
datas.append((str(packaged_path("decoding/general.lm")), "lwasr_edge/decoding"))
