"""Keys of upstream configurations: a key that might change the computation is honoured, refused or named."""

from collections.abc import Mapping
from typing import Any

from vitral.weights.lineages.lineage import Lineage
from vitral.weights.upstream_card import CARD_KEYS

__all__ = ["unknown_keys"]

HARMLESS = frozenset(
    (
        # transformers: names, versions, outputs
        *("_name_or_path", "architectures", "dtype", "id2label", "label2id", "model_type", "problem_type"),
        *("output_attentions", "output_hidden_states", "return_dict", "torch_dtype", "transformers_version"),
        *("chunk_size_feed_forward", "is_encoder_decoder"),
        *("_attn_implementation", "_commit_hash", "finetuning_task", "processor_class", "task_specific_params"),
        *("tie_word_embeddings", "tf_legacy_loss", "tokenizer_class", "torchscript", "use_bfloat16", "use_cache"),
        # put there by load_upstream, where a user gives it
        *("num_heads", "num_attention_heads", "pool"),
        # transformers: training only
        *("attention_dropout", "attention_probs_dropout_prob", "drop_path_rate", "dropout", "gradient_checkpointing"),
        *("hidden_dropout_prob", "initializer_factor", "initializer_range", "layerscale_value", "mask_ratio"),
        *("norm_pix_loss", "num_labels", "pos_embed_jitter", "pos_embed_rescale", "pos_embed_shift"),
        # transformers: parts that Vitral leaves out and names, and the feature maps of a backbone
        *("decoder_hidden_size", "decoder_intermediate_size", "decoder_num_attention_heads"),
        *("decoder_num_hidden_layers", "encoder_stride", "pooler_act", "pooler_output_size", "use_mask_token"),
        *("_out_features", "_out_indices", "out_features", "out_indices", "reshape_hidden_states", "stage_names"),
        # transformers: generation of text, which older versions wrote into every configuration
        *(
            "add_cross_attention",
            "bad_words_ids",
            "begin_suppress_tokens",
            "bos_token_id",
            "cross_attention_hidden_size",
        ),
        *("decoder_start_token_id", "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size"),
        *("eos_token_id", "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id"),
        *("is_decoder", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups"),
        *("num_beams", "num_return_sequences", "output_scores", "pad_token_id", "prefix", "remove_invalid_values"),
        *("repetition_penalty", "return_dict_in_generate", "sep_token_id", "suppress_tokens", "temperature"),
        *("tie_encoder_decoder", "top_k", "top_p", "typical_p"),
        # what describes the preprocessing
        *CARD_KEYS,
    )
)
"""Keys that do not change what a trained image encoder computes, whatever the lineage."""


def unknown_keys(lineage: Lineage, upstream_config: Mapping[str, Any]) -> list[str]:
    """Sorted keys in the encoder's part of the configuration that the lineage neither honours nor refuses."""
    section = lineage.config_section(upstream_config)
    return sorted(section.keys() - lineage.config_keys - HARMLESS)
