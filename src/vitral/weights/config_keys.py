"""Keys of upstream configurations: a key that might change the computation is honoured, refused or named."""

from collections.abc import Mapping
from typing import Any

from vitral.weights.lineages.lineage import Lineage

__all__ = ["unknown_keys"]

HARMLESS = frozenset(
    (
        # transformers: names, versions, outputs
        *("_name_or_path", "architectures", "dtype", "id2label", "label2id", "model_type", "problem_type"),
        *("output_attentions", "output_hidden_states", "return_dict", "torch_dtype", "transformers_version"),
        *("chunk_size_feed_forward", "is_encoder_decoder"),
        # put there by load_upstream, where a user gives it
        *("num_heads", "num_attention_heads"),
        # transformers: training only
        *("attention_dropout", "attention_probs_dropout_prob", "drop_path_rate", "hidden_dropout_prob"),
        *("initializer_factor", "initializer_range", "num_labels"),
    )
)
"""Keys that do not change what a trained image encoder computes, whatever the lineage."""


def unknown_keys(lineage: Lineage, upstream_config: Mapping[str, Any]) -> list[str]:
    """Sorted keys in the encoder's part of the configuration that the lineage neither honours nor refuses."""
    section = lineage.config_section(upstream_config)
    return sorted(section.keys() - lineage.config_keys - HARMLESS)
