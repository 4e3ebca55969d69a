"""What a bundle's metadata must hold, as JSON schema: MONAI's specification in a form that needs no network.

MONAI's own ``verify_metadata`` downloads the schema that the metadata name, or takes the file that lies where it would
put it. The bundle brings this one there, written after docs/source/mb_specification.rst of MONAI 1.6; MONAI's published
schema cannot stand in a file of this project.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SCHEMA_URL", "metadata_schema"]

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_TEXT = {"type": "string"}
_TENSOR = {
    "type": "object",
    "required": [
        *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def"),
    ],
    "properties": {
        "type": {"enum": ["image", "series", "tuples", "probabilities"]},
        "format": {
            "enum": [
                *("magnitude", "hounsfield", "kspace", "raw", "labels", "classes", "segmentation", "points", "normals"),
                *("indices", "sequence", "latent", "gradient"),
            ]
        },
        "modality": _TEXT,
        "num_channels": {"type": "integer", "minimum": 1},
        "spatial_shape": {"type": "array", "items": {"type": ["integer", "string"]}},
        "dtype": _TEXT,
        "value_range": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object", "additionalProperties": _TEXT},
    },
}


def metadata_schema() -> dict[str, Any]:
    """Return the schema of ``configs/metadata.json``."""
    named = {"type": "object", "minProperties": 1, "additionalProperties": _TENSOR}
    texts = (
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "task",
        "description",
        "authors",
        "copyright",
    )
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": [*texts, "required_packages_version", "network_data_format"],
        "properties": {
            **dict.fromkeys(texts, _TEXT),
            "changelog": {"type": "object", "additionalProperties": _TEXT},
            "required_packages_version": {"type": "object", "additionalProperties": _TEXT},
            "network_data_format": {
                "type": "object",
                "required": ["inputs", "outputs"],
                "properties": {"inputs": named, "outputs": named},
            },
        },
    }
