"""The one door to solo-learn.

Everything that the plugin needs of its host goes through the names below. They are solo-learn's
own where a usable checkout is importable, and those of the embedded stand-in where it is not; see
`mixbt_plugin.host.detect`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixbt_plugin.host.detect import Host, HostError, detect

HOST: Host = detect()

if TYPE_CHECKING or HOST.is_embedded:
    from mixbt_plugin.host.embedded import (
        METHODS,
        BaseMethod,
        FullTransformPipeline,
        LinearModel,
        NCropAugmentation,
        WeightedKNNClassifier,
        add_dataset,
        build_backbone,
        build_transform_pipeline,
        parse_linear_cfg,
        parse_pretrain_cfg,
        prepare_evaluation_datasets,
        prepare_pretrain_dataset,
    )
else:
    from mixbt_plugin.host.solo_learn import (
        METHODS,
        BaseMethod,
        FullTransformPipeline,
        LinearModel,
        NCropAugmentation,
        WeightedKNNClassifier,
        add_dataset,
        build_backbone,
        build_transform_pipeline,
        parse_linear_cfg,
        parse_pretrain_cfg,
        prepare_evaluation_datasets,
        prepare_pretrain_dataset,
    )

__all__ = [
    "HOST",
    "METHODS",
    "BaseMethod",
    "FullTransformPipeline",
    "Host",
    "HostError",
    "LinearModel",
    "NCropAugmentation",
    "WeightedKNNClassifier",
    "add_dataset",
    "build_backbone",
    "build_transform_pipeline",
    "parse_linear_cfg",
    "parse_pretrain_cfg",
    "prepare_evaluation_datasets",
    "prepare_pretrain_dataset",
]
