"""Settings in training checkpoints that do not change what the trained encoder computes."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from vitral.weights.lineages.timm_config import CONFIG_KEYS, DINOV3_ROTATION, FIXED

__all__ = ["unknown_settings"]

NAMES = """
aa accelerator accum_iter accumulate_grad_batches aot_autograd apex arch architecture attn_only avgpool_patchtokens
backend bce_pos_weight bce_sum bce_target_thresh benchmark beta1 beta2 betas bf16 blr bn_eps brightness cache channels
channels_last class_map class_names class_to_idx class_token classes clip_grad clip_grad_norm clip_mode color_jitter
comment commit compile compiled config contrast cosub criterion cuda cudnn_benchmark date debug depth description
deterministic device device_modules devices dim dump_features embed_dim exp exp_name experiment experiment_name
fast_norm finetune finetune_from fold folds fp16 freeze freeze_backbone freeze_last_layer frozen fuser gamma git_hash
grad_accum head_init_bias head_init_scale height hflip hidden_dim hidden_size host hostname hparams hue id2label
idx_to_class image_size img_height img_size img_width in_channels in_chans inat_category init_values input_img_mode
input_key input_size intermediate_size interpolation kd_model_name kd_student_feature_dim kd_teacher_feature_dim
kd_temperature kwargs label2id label_smoothing labels layer_scale learning_rate load_features local_world_size
mask_ratio mean metric metrics metrics_avg mlp_dim mlp_ratio moco_dim moco_m moco_m_cos moco_mlp_dim moco_t mode model
model_dtype model_name monitor n_classes n_folds n_last_blocks naflex_loader naflex_max_seq_len
naflex_patch_size_probs naflex_patch_sizes naflex_patchify_channels_first name nb_classes nb_knn nesterov ngpus
no_cuda no_ddp_bb no_prefetcher nodes norm_last_layer notes num_channels num_class num_hidden_layers num_labels
num_layers num_nodes num_samples opt opt_betas opt_eps opt_kwargs out_dim patch_size patience pin_mem pin_memory port
precision prefetch_factor prefetcher project qkv_bias ra_magnitude ra_reps ra_sampler random_erase random_erasing
ratio real_labels recount reg_tokens remode reparam reprob resize resize_size resplit results_format retry rotation
run_name sampler saturation scale shuffle smoothing split split_bn src std stochastic_depth stop_grad_conv1 strategy
subset sync_bn t_max tags target_key task teacher_model teacher_path teacher_temp temperature tf_preprocessing
ThreeAugment time timestamp torchcompile torchcompile_mode torchscript transform transforms tta use_bn_in_head
use_cuda use_deterministic_algorithms use_fp16 use_v2 user verbose version vflip weights width world_size
"""
"""Arguments of the training scripts of timm, DINO, MAE, MoCo v3, DeiT and torchvision, and other usual names: data,
augmentation, optimisation, logging, and sizes that the tensors show.
"""
HARMLESS = frozenset(NAMES.split()) | CONFIG_KEYS - FIXED.keys() - DINOV3_ROTATION.keys()
WORDS = re.compile(
    r"(^|_)(amp|aug\w*|batch|checkpoint\w*|ckpt|crops?|cutmix\w*|data\w*|decay|dir|dist\w*|drop\w*|ema\w*|epochs?|eval\w*|"
    r"every|files?|freq|gpus?|interval|log\w*|loss\w*|lr\d?|mixup\w*|momentum|num_classes|optim\w*|output\w*|path|"
    r"pretrained\w*|prob|rank|resume|root|save\w*|sched\w*|seed|steps?|test|train\w*|url|val|valid\w*|wandb\w*|warmup|wd|"
    r"workers?)($|_)",
    re.IGNORECASE,
)
"""Words in the names of arguments for training."""


def unknown_settings(place: str, section: Mapping[Any, Any], *, understood: Collection[str]) -> list[str]:
    """Places of the settings in a section that may change the encoder, for all that is known of their names.

    Values that switch nothing on, and tensors, are passed over.

    Args:
        place: where the section stands in the file, such as `args`.
        section: settings by key.
        understood: keys that are read.
    """
    if any(isinstance(value, Tensor) for value in section.values()):
        return []  # a state dict
    return [f"{place}.{key}" for key, value in section.items() if key not in understood and _is_unknown(key, value)]


def _is_unknown(key: Any, value: Any) -> bool:
    if not isinstance(key, str) or key.startswith("_") or key in HARMLESS or WORDS.search(key):
        return False
    if isinstance(value, dict):
        return bool(value) and not any(isinstance(each, Tensor) for each in value.values())
    return isinstance(value, bool | int | float | str | list | tuple) and bool(value)
