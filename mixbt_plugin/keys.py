"""Every key that the commands read: its type, range, choices and default.

What a key is for stands beside its default in ``configs/defaults.yaml``; here, where it must be
given, as a message says it.
Names and meanings are solo-learn's where it has the key. The ``method_kwargs`` of a method are
declared by its class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from omegaconf import DictConfig, OmegaConf
from pydantic import BeforeValidator, StringConstraints, model_validator

from mixbt_plugin.settings import REQUIRED, Section, check, fill_in, section, setting

Share = Annotated[float, Ge(0), Le(1)]
NotNegative = Annotated[float, Ge(0)]
Decay = Annotated[float, Ge(0), Lt(1)]
Count = Annotated[int, Ge(1)]
Pixels = Annotated[int, Ge(1), Le(8192)]
Size = Pixels | Annotated[list[Pixels], Len(1, 2)]
ToList = BeforeValidator(lambda one: one if isinstance(one, list | None) else [one])
A_SIZE = "a positive number of pixels up to 8192, or a list of two"
A_STATISTIC = "three numbers, one a channel"
POSITIVE_STATISTIC = "three numbers above 0, one a channel"


class RandomResizedCrop(Section):
    """``rrc`` of a pipeline."""

    enabled: bool = setting(REQUIRED, "whether views are random crops")
    crop_min_scale: float | None = setting(None, gt=0, le=1)
    crop_max_scale: float | None = setting(None, gt=0, le=1)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    after_color: bool = False

    @model_validator(mode="after")
    def _scales(self) -> RandomResizedCrop:
        low, high = self.crop_min_scale, self.crop_max_scale
        if self.enabled and (low is None or high is None or low > high):
            raise ValueError(
                f"crop_min_scale={low} with crop_max_scale={high}: expected shares of the image, "
                "the first not above the second."
            )
        return self


class ColorJitter(Section):
    """``color_jitter`` of a pipeline."""

    prob: Share = setting(REQUIRED, "a probability")
    brightness: NotNegative | None = None
    contrast: NotNegative | None = None
    saturation: NotNegative | None = None
    hue: float | None = setting(None, ge=0, le=0.5)

    @model_validator(mode="after")
    def _amounts(self) -> ColorJitter:
        for key in ("brightness", "contrast", "saturation", "hue"):
            if self.prob and getattr(self, key) is None:
                raise ValueError(f"{key} is missing, and prob is not 0.")
        return self


class WithProbability(Section):
    """An augmentation that has no other key."""

    prob: Share = setting(REQUIRED, "a probability")


class Statistics(Section):
    """What images are normalised with."""

    mean: list[float] | None = setting(None, expected=A_STATISTIC, min_length=3, max_length=3)
    std: list[Annotated[float, Gt(0)]] | None = setting(
        None, expected=POSITIVE_STATISTIC, min_length=3, max_length=3
    )


class EvaluationImages(Statistics):
    """``data.augmentations`` of an evaluation; null is as in pre-training, or the data set's."""

    crop_size: Size | None = setting(None, expected=A_SIZE)


class Views(Statistics):
    """How views are made of an image."""

    rrc: RandomResizedCrop = section()
    color_jitter: ColorJitter = section()
    grayscale: WithProbability = section()
    gaussian_blur: WithProbability = section()
    solarization: WithProbability = section()
    equalization: WithProbability = section()
    horizontal_flip: WithProbability = section()
    num_crops: int = setting(REQUIRED, "views that it gives", ge=1, le=64)


class Pipeline(Views):
    """An entry of ``augmentations`` of pre-training; null statistics are the data set's."""

    crop_size: Size = setting(REQUIRED, "height and width in pixels", expected=A_SIZE)


class LinearPipeline(Views, EvaluationImages):
    """An entry of ``augmentations`` of linear evaluation; null is as in `EvaluationImages`."""


class Backbone(Section):
    """``backbone``."""

    name: str = setting(REQUIRED, "one of the host's backbones")
    kwargs: dict[str, Any] = {}


class PretrainedBackbone(Section):
    """``backbone`` of an evaluation."""

    name: str | None = None
    kwargs: dict[str, Any] = {}


class Data(Section):
    """``data``."""

    dataset: str = setting(REQUIRED, "a data set's name")
    train_path: str | None = None
    val_path: str | None = None
    format: Literal["image_folder", "h5", "dali"] = "image_folder"
    num_workers: int = setting(4, ge=0, le=1024)
    fraction: Annotated[float, Ge(-1), Le(-1)] | Annotated[float, Gt(0), Lt(1)] = setting(
        -1, expected="a share in (0, 1), or -1 for all"
    )
    train_subset: str | None = None
    crop_to_box: bool = True
    unreadable: Literal["stop", "skip"] = "stop"
    color: bool = False


class PretrainData(Data):
    """``data`` of pre-training."""

    no_labels: bool = False
    augment: Literal["image", "batch"] = "image"
    in_memory: bool | None = None


class LinearData(Data):
    """``data`` of linear evaluation."""

    augmentations: EvaluationImages = section()


class OtherData(Section):
    """``data`` of kNN and export; null is as in pre-training."""

    dataset: str | None = None
    train_path: str | None = None
    val_path: str | None = None
    format: Literal["image_folder", "h5"] | None = None
    crop_to_box: bool | None = None
    unreadable: Literal["stop", "skip"] | None = None
    color: bool | None = None
    augmentations: EvaluationImages = section()


class SGD(Section):
    """``optimizer.kwargs`` of sgd."""

    momentum: Decay = 0.9
    dampening: Share = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov(self) -> SGD:
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("nesterov=True: expected a momentum above 0 and no dampening.")
        return self


class LARS(Section):
    """``optimizer.kwargs`` of lars."""

    momentum: Decay = 0.9
    eta: float = setting(1e-3, gt=0)
    eps: float = setting(1e-8, gt=0)
    clip_lr: bool = False
    exclude_bias_n_norm: bool = False


class Adam(Section):
    """``optimizer.kwargs`` of adam and adamw."""

    betas: Annotated[list[Decay], Len(2, 2)] = setting(
        [0.9, 0.999], expected="two numbers of at least 0 and below 1"
    )
    eps: float = setting(1e-8, gt=0)
    amsgrad: bool = False


OPTIMIZER_KWARGS: Mapping[str, type[Section]] = {
    "sgd": SGD,
    "lars": LARS,
    "adam": Adam,
    "adamw": Adam,
}


class Optimizer(Section):
    """``optimizer``."""

    name: Literal["sgd", "lars", "adam", "adamw"] = setting(REQUIRED, "the optimiser")
    batch_size: int = setting(REQUIRED, "images a process and step", ge=2)
    lr: NotNegative = setting(REQUIRED, "learning rate of 256 images a step")
    weight_decay: NotNegative = 0.0
    exclude_bias_n_norm_wd: bool = False
    kwargs: dict[str, Any] = {}

    @model_validator(mode="after")
    def _kwargs(self) -> Optimizer:
        declared, given = OPTIMIZER_KWARGS[self.name], self.kwargs
        others = {key for one in OPTIMIZER_KWARGS.values() for key in one.model_fields}
        foreign = (others - set(declared.model_fields)).intersection(given)
        if foreign:
            raise ValueError(
                f"kwargs has {', '.join(sorted(foreign))} of another optimiser than "
                f"{self.name}: optimizer.kwargs=null takes {self.name}'s defaults, "
                f"{', '.join(declared.model_fields)} are its keys."
            )
        self.kwargs = check(declared, given, "kwargs", owner=self.name).model_dump()
        return self


class PretrainOptimizer(Optimizer):
    """``optimizer`` of pre-training."""

    classifier_lr: NotNegative = setting(REQUIRED, "learning rate of the online classifier")
    bias_lr_ratio: float | None = setting(None, gt=0)


class LinearOptimizer(Optimizer):
    """``optimizer`` of linear evaluation and fine-tuning."""

    classifier_lr: NotNegative | None = None
    layer_decay: float = setting(0.0, ge=0, le=1)


class Scheduler(Section):
    """``scheduler``."""

    warmup_epochs: NotNegative = 10.0
    warmup_start_lr: NotNegative = 3e-5
    min_lr: NotNegative = 0.0
    lr_decay_steps: list[Count] | None = None
    interval: Literal["step", "epoch"] = "step"


class PretrainScheduler(Scheduler):
    """``scheduler`` of pre-training."""

    name: Literal["warmup_cosine", "step", "none", "barlow_cosine"] = setting(
        REQUIRED, "the schedule"
    )
    final_lr_ratio: Share = 1e-3
    first_epoch: NotNegative = 0.0


class LinearScheduler(Scheduler):
    """``scheduler`` of linear evaluation."""

    name: Literal["warmup_cosine", "cosine", "step", "exponential", "reduce", "none"] = setting(
        REQUIRED, "the schedule"
    )
    gamma: float = setting(0.1, gt=0, le=1)


class Checkpoint(Section):
    """``checkpoint``."""

    enabled: bool = True
    dir: str = "trained_models"
    frequency: Count = 1
    keep_prev: bool = False


class OnlineKNN(Section):
    """``knn_eval``."""

    enabled: bool = False
    k: Count = 20
    distance_func: Literal["cosine", "euclidean"] = "euclidean"


class WandB(Section):
    """``wandb``."""

    enabled: bool = False
    entity: str | None = None
    id: str | None = None
    project: str = "solo-learn"
    offline: bool = False


class TensorBoard(Section):
    """``tensorboard``."""

    enabled: bool = False


class Performance(Section):
    """``performance``."""

    disable_channel_last: bool = False
    compile: bool = False


class Numerics(Section):
    """``numerics``."""

    on_nonfinite: Literal["stop", "skip"] = "stop"
    max_skipped: int = setting(10, ge=0)
    warn_of_collapse: bool = True


class Diagnostics(Section):
    """``diagnostics``."""

    enabled: bool = False
    every_n_epochs: Count = 1
    images: Count = 2048
    keep_best: bool = False
    picture: int = setting(0, ge=0)


class Dali(Section):
    """``dali``, of data.format=dali."""

    device: Literal["gpu", "cpu"] = "gpu"
    encode_indexes_into_labels: bool = False


TimeUnit = Literal["weeks", "days", "hours", "minutes", "seconds", "milliseconds"]
A_TIME = StringConstraints(pattern=r"^\d+:\d{1,2}:\d{1,2}:\d{1,2}$")
Batches = Annotated[int, Ge(1)] | Annotated[float, Gt(0), Le(1)]
"""A number of batches, or a share of an epoch's."""


class Training(Section):
    """What pre-training and linear evaluation share."""

    refused: ClassVar[Mapping[str, str]] = {
        "overfit_batches": "batches are drawn anew in each epoch; limit_train_batches takes few.",
        "min_steps": "no training ends by itself before max_epochs.",
        "min_epochs": "no training ends by itself before max_epochs.",
        "val_check_interval": "validation is at the end of an epoch; check_val_every_n_epoch says "
        "of which.",
        "reload_dataloaders_every_n_epochs": "batches are a function of seed and epoch already.",
        "limit_test_batches": "nothing is tested apart from validation: limit_val_batches.",
        "limit_predict_batches": "nothing is predicted.",
        "logger": "metrics.csv is always written; wandb.enabled=true and tensorboard.enabled=true "
        "log there too.",
        "callbacks": "they are Python objects, which a config cannot hold.",
        "plugins": "they are Python objects, which a config cannot hold.",
        "enable_checkpointing": "it is called checkpoint.enabled here.",
        "default_root_dir": "it is called checkpoint.dir here.",
        "use_distributed_sampler": "the loaders share the images out themselves.",
        "inference_mode": "validation is without gradients in any case.",
        "barebones": "it would log and save nothing.",
        "enable_autolog_hparams": "args.json and wandb have the whole config in any case.",
        "model_registry": "the checkpoints are files, in checkpoint.dir.",
    }

    name: str = "model"
    max_epochs: Count = setting(REQUIRED, "epochs of training")
    max_steps: Annotated[int, Ge(-1), Le(-1)] | Count = setting(
        -1, expected="a whole number of at least 1, or -1 for no limit"
    )
    max_time: Annotated[str, A_TIME] | dict[TimeUnit, Annotated[int, Ge(0)]] | None = setting(
        None, expected="days:hours:minutes:seconds, such as 00:12:00:00"
    )
    fast_dev_run: bool | Count = False
    seed: int = setting(5, ge=0, le=2**32 - 1)
    checkpoint: Checkpoint = section()
    performance: Performance = section()
    numerics: Numerics = section()
    wandb: WandB = section()
    tensorboard: TensorBoard = section()
    dali: Dali = section()
    resume_from_checkpoint: str | None = None
    accelerator: Literal["auto", "gpu", "cuda", "cpu"] = "auto"
    devices: int | str | list[int] | None = setting(
        "auto",
        expected="a positive number, a list of different ids such as [0, 1], or 'auto'",
    )
    num_nodes: int = setting(1, ge=1, le=4096)
    strategy: (
        Literal[
            "auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"
        ]
        | None
    ) = "auto"
    sync_batchnorm: bool = False
    precision: Literal[
        16, 32, 64, "16", "32", "64", "bf16", "16-mixed", "bf16-mixed", "16-true", "bf16-true",
        "32-true", "64-true"
    ] = setting(
        32,
        expected="one of 16, 32, 64, bf16, 16-mixed, bf16-mixed, 16-true, bf16-true, 32-true, "
        "64-true",
    )  # fmt: skip
    accumulate_grad_batches: Count | None = 1
    gradient_clip_val: NotNegative | None = None
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    limit_train_batches: Batches | None = None
    limit_val_batches: Batches | None = None
    check_val_every_n_epoch: Count = 1
    num_sanity_val_steps: int = setting(2, ge=-1)
    log_every_n_steps: Count = 50
    enable_progress_bar: bool = True
    enable_model_summary: bool = True
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    profiler: Literal["simple", "advanced"] | None = None


class PretrainConfig(Training):
    """A config of ``mixbt-pretrain``."""

    method: str = setting(REQUIRED, "one of the registered methods")
    method_kwargs: dict[str, Any] = {}
    pretrained_feature_extractor: str | None = None
    backbone: Backbone = section()
    data: PretrainData = section()
    augmentations: Annotated[list[Pipeline], Len(1)] = setting(
        REQUIRED, "pipelines, each of which gives views", expected="a list of pipelines"
    )
    optimizer: PretrainOptimizer = section()
    scheduler: PretrainScheduler = section()
    diagnostics: Diagnostics = section()
    knn_eval: OnlineKNN = section()
    momentum: dict[str, Any] | None = None


class LinearSettings(Section):
    """How linear evaluation uses the backbone."""

    finetune: bool = False
    backbone_batch_norm: Literal["eval", "train"] | None = None
    feature_passes: int = setting(1, ge=1, le=1024)


class LinearConfig(LinearSettings, Training):
    """A config of ``mixbt-linear``."""

    pretrained_feature_extractor: str = setting(REQUIRED, "path of a checkpoint of pre-training")
    pretrain_method: str | None = None
    auto_augment: bool = False
    label_smoothing: Share = 0.0
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    backbone: PretrainedBackbone = section()
    data: LinearData = section()
    augmentations: list[LinearPipeline] | None = setting(
        None,
        expected="a list of pipelines, or null",
    )
    optimizer: LinearOptimizer = section()
    scheduler: LinearScheduler = section()


def complete(cfg: DictConfig, declaration: type[Training]) -> None:
    """Fills in the defaults of a config of a training, those of its optimiser too, in place."""
    fill_in(cfg, declaration)
    cfg.optimizer.kwargs = OmegaConf.create(cfg.optimizer.kwargs or {})
    fill_in(cfg.optimizer.kwargs, OPTIMIZER_KWARGS[cfg.optimizer.name])


class Evaluation(Section):
    """What kNN and export share."""

    pretrained_checkpoint: str = setting(REQUIRED, "the path of a checkpoint")
    pretrain_method: str | None = None
    backbone: PretrainedBackbone = section()
    data: OtherData = section()


class Extraction(Evaluation):
    """What the commands share that compute features."""

    batch_size: int = setting(256, ge=1)
    num_workers: int = setting(0, ge=0, le=1024)
    accelerator: Literal["auto", "gpu", "cuda", "cpu"] = "auto"


class KNNConfig(Extraction):
    """A config of ``mixbt-knn``."""

    k: Annotated[list[Count], ToList, Len(1)] = [20, 200]
    temperature: Annotated[list[Annotated[float, Gt(0)]], ToList, Len(1)] = [0.07, 0.5]
    distance_function: Annotated[list[Literal["cosine", "euclidean"]], ToList, Len(1)] = [
        "cosine",
        "euclidean",
    ]
    feature_type: Annotated[list[Literal["backbone", "projector"]], ToList, Len(1)] = [
        "backbone",
        "projector",
    ]


class ExportConfig(Evaluation):
    """A config of ``mixbt-export``."""

    format: Literal["timm", "torchvision", "onnx"] = "timm"
    folder: str | None = None


class FolderOrData(Extraction):
    """What the commands share that take any folder of images."""

    images: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> FolderOrData:
        if self.images is not None:
            said = [
                *(f"data.{key}" for key in ("train_path", "val_path") if getattr(self.data, key)),
                *(["split"] if getattr(self, "split", None) else []),
            ]
            if said:
                raise ValueError(
                    f"images={self.images!r} with {' and '.join(said)}: expected a folder, or a "
                    "split of a data set."
                )
        return self


class EmbedConfig(FolderOrData):
    """A config of ``mixbt-embed``."""

    split: Literal["train", "val"] | None = None
    feature_type: Literal["backbone", "projector"] = "backbone"
    folder: str | None = None
    format: Literal["npz", "parquet"] = "npz"
    shard: Count = 100_000
    queries: list[str] = []
    neighbours: int = setting(8, ge=1, le=100)
    picture: int = setting(5000, ge=0)


class DiagnoseConfig(FolderOrData):
    """A config of ``mixbt-diagnose``."""

    count: Annotated[int, Ge(2)] = 2048
    picture: bool = True

    @model_validator(mode="after")
    def _views_of_pretraining(self) -> DiagnoseConfig:
        asked = self.data.augmentations.model_dump()
        if self.backbone.name is None:
            for key, value in asked.items():
                if value is not None:
                    raise ValueError(
                        f"data.augmentations.{key}={value}: images are in the views of "
                        "pre-training; expected null, or backbone.name, whose images are not "
                        "augmented."
                    )
        return self


class CompareArm(Section):
    """``arms.<name>`` of a comparison."""

    config: str = setting(REQUIRED, "a config of mixbt-pretrain: its folder and name")
    overrides: list[str] = []


class CompareBudget(Section):
    """``budget`` of a comparison."""

    unit: Literal["epochs", "steps", "images", "seconds"] = "epochs"
    amount: float = setting(REQUIRED, "how many; seconds are of training alone", gt=0)
    clock: Literal["wall", "cpu"] = "wall"

    @model_validator(mode="after")
    def _whole_epochs(self) -> CompareBudget:
        if self.unit == "epochs" and self.amount != int(self.amount):
            raise ValueError(f"amount={self.amount}: expected a whole number of epochs.")
        return self


class CompareEvaluation(Section):
    """``evaluation`` of a comparison."""

    epochs: Count | Annotated[list[Count], Len(1)] = setting(
        10,
        expected="a whole number of at least 1, or a list of them",
    )
    split: Literal["test", "validation"] = "test"
    knn_k: Count = 20
    knn_temperature: float = setting(0.07, gt=0)
    linear_labels: Count | None = 6000
    labels_per_class: Count = 10
    draws: Count = 5


class CompareConfig(Section):
    """A config of ``mixbt-compare``."""

    title: str = ""
    output_dir: str = setting(REQUIRED, "folder of runs, table and pictures")
    arms: dict[str, Any] = setting(
        REQUIRED, "what is compared, by name", min_length=1, expected="at least one arm"
    )
    seeds: Annotated[list[Annotated[int, Ge(0), Le(2**32 - 1)]], ToList, Len(1)] = setting(
        [5], expected="whole numbers of 0 to 4294967295, at least one"
    )
    overrides: list[str] = []
    budget: CompareBudget = section()
    evaluation: CompareEvaluation = section()
    jobs: Count = 1
    threads: Count | None = 1

    @model_validator(mode="after")
    def _names_and_seeds(self) -> CompareConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds}: expected different ones.")
        for name in self.arms:
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_-]*", name):  # what '~arms.name' takes
                raise ValueError(
                    f"arms.{name}: expected a name of letters, digits, - and _ that does not begin "
                    "with a digit."
                )
        if self.budget.unit == "seconds" and isinstance(self.evaluation.epochs, list):
            raise ValueError(
                f"evaluation.epochs={self.evaluation.epochs} with budget.unit='seconds': how many "
                "epochs fit is not known before; expected a number of evaluations."
            )
        return self

    def arm(self, name: str) -> CompareArm:
        """An arm's keys, checked."""
        return check(CompareArm, self.arms[name], f"arms.{name}", owner="mixbt-compare")


SOLO_LEARN_SCRIPT = ("auto_resume", "auto_umap", "debug_augmentations", "wandb_run_id")
"""Keys that only solo-learn's own script reads."""
