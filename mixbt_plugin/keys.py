"""Every key that the commands read: its type, range, choices, default and what it is.

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
    crop_min_scale: float | None = setting(None, "least share of the area", gt=0, le=1)
    crop_max_scale: float | None = setting(None, "largest share of the area", gt=0, le=1)
    interpolation: Literal["bicubic", "bilinear"] = setting("bicubic", "of the crop")
    after_color: bool = setting(False, "colours before the crop, as in mix-bt on 64 px")

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
    brightness: NotNegative | None = setting(None, "largest change")
    contrast: NotNegative | None = setting(None, "largest change")
    saturation: NotNegative | None = setting(None, "largest change")
    hue: float | None = setting(None, "largest shift, in circles", ge=0, le=0.5)

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

    mean: list[float] | None = setting(
        None, "of the channels", expected=A_STATISTIC, min_length=3, max_length=3
    )
    std: list[Annotated[float, Gt(0)]] | None = setting(
        None, "likewise", expected=POSITIVE_STATISTIC, min_length=3, max_length=3
    )


class EvaluationImages(Statistics):
    """``data.augmentations`` of an evaluation; null is as in pre-training, or the data set's."""

    crop_size: Size | None = setting(None, "height and width in pixels", expected=A_SIZE)


class Views(Statistics):
    """How views are made of an image."""

    rrc: RandomResizedCrop = section("random crops")
    color_jitter: ColorJitter = section("changes of the colours")
    grayscale: WithProbability = section("grey views")
    gaussian_blur: WithProbability = section("blurred views")
    solarization: WithProbability = section("solarised views")
    equalization: WithProbability = section("equalised views")
    horizontal_flip: WithProbability = section("mirrored views")
    num_crops: int = setting(REQUIRED, "views that it gives", ge=1, le=64)


class Pipeline(Views):
    """An entry of ``augmentations`` of pre-training; null statistics are the data set's."""

    crop_size: Size = setting(REQUIRED, "height and width in pixels", expected=A_SIZE)


class LinearPipeline(Views, EvaluationImages):
    """An entry of ``augmentations`` of linear evaluation; null is as in `EvaluationImages`."""


class Backbone(Section):
    """``backbone``."""

    name: str = setting(REQUIRED, "one of the host's backbones")
    kwargs: dict[str, Any] = setting({}, "of its constructor")


class PretrainedBackbone(Section):
    """``backbone`` of an evaluation."""

    name: str | None = setting(None, "that of args.json beside the checkpoint where null")
    kwargs: dict[str, Any] = setting({}, "of its constructor")


class Data(Section):
    """``data``."""

    dataset: str = setting(REQUIRED, "a data set's name")
    train_path: str | None = setting(None, "folder, or file of data.format=h5")
    val_path: str | None = setting(None, "likewise; null where there is none")
    format: Literal["image_folder", "h5", "dali"] = setting("image_folder", "how it is read")
    num_workers: int = setting(4, "processes that load images", ge=0, le=1024)
    fraction: Annotated[float, Ge(-1), Le(-1)] | Annotated[float, Gt(0), Lt(1)] = setting(
        -1, "part of the training images", expected="a share in (0, 1), or -1 for all"
    )
    train_subset: str | None = setting(None, "file that lists the training images taken")
    crop_to_box: bool = setting(True, "of aircraft: crop to the bounding box")
    unreadable: Literal["stop", "skip"] = setting("stop", "at an image that cannot be read")
    color: bool = setting(False, "of photo_patches: colours")


class PretrainData(Data):
    """``data`` of pre-training."""

    no_labels: bool = setting(False, "one folder of images without classes")
    augment: Literal["image", "batch"] = setting("image", "what views are computed of at once")
    in_memory: bool | None = setting(None, "keep decoded images; null: tiny_imagenet alone")


class LinearData(Data):
    """``data`` of linear evaluation."""

    augmentations: EvaluationImages = section("how images are brought to the network")


class OtherData(Section):
    """``data`` of kNN and export; null is as in pre-training."""

    dataset: str | None = setting(None, "a data set's name")
    train_path: str | None = setting(None, "folder, or file of data.format=h5")
    val_path: str | None = setting(None, "likewise")
    format: Literal["image_folder", "h5"] | None = setting(None, "how it is read")
    crop_to_box: bool | None = setting(None, "of aircraft: crop to the bounding box")
    unreadable: Literal["stop", "skip"] | None = setting(None, "at an image that cannot be read")
    color: bool | None = setting(None, "of photo_patches: colours")
    augmentations: EvaluationImages = section("how images are brought to the network")


class SGD(Section):
    """``optimizer.kwargs`` of sgd."""

    momentum: Decay = setting(0.9, "of the update")
    dampening: Share = setting(0.0, "of the momentum")
    nesterov: bool = setting(False, "Nesterov's momentum")

    @model_validator(mode="after")
    def _nesterov(self) -> SGD:
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("nesterov=True: expected a momentum above 0 and no dampening.")
        return self


class LARS(Section):
    """``optimizer.kwargs`` of lars."""

    momentum: Decay = setting(0.9, "of the update")
    eta: float = setting(1e-3, "trust coefficient", gt=0)
    eps: float = setting(1e-8, "added to the norm that divides", gt=0)
    clip_lr: bool = setting(False, "keep the scaled rate from exceeding optimizer.lr")
    exclude_bias_n_norm: bool = setting(False, "update these by plain SGD")


class Adam(Section):
    """``optimizer.kwargs`` of adam and adamw."""

    betas: Annotated[list[Decay], Len(2, 2)] = setting(
        [0.9, 0.999], "of the running means", expected="two numbers of at least 0 and below 1"
    )
    eps: float = setting(1e-8, "added to the root that divides", gt=0)
    amsgrad: bool = setting(False, "AMSGrad's variant")


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
    weight_decay: NotNegative = setting(0.0, "L2 penalty")
    exclude_bias_n_norm_wd: bool = setting(False, "no weight decay on these")
    kwargs: dict[str, Any] = setting({}, "of the optimiser's constructor")

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
    bias_lr_ratio: float | None = setting(
        None, "learning rate of biases and batch-norm, relative to lr; null: the same", gt=0
    )


class LinearOptimizer(Optimizer):
    """``optimizer`` of linear evaluation and fine-tuning."""

    classifier_lr: NotNegative | None = setting(None, "of fine-tuning: the classifier's")
    layer_decay: float = setting(0.0, "solo-learn's, of the rates of fine-tuning", ge=0, le=1)


class Scheduler(Section):
    """``scheduler``."""

    warmup_epochs: NotNegative = setting(10.0, "length of the warm-up")
    warmup_start_lr: NotNegative = setting(3e-5, "rate that warmup_cosine starts at")
    min_lr: NotNegative = setting(0.0, "rate that it ends at")
    lr_decay_steps: list[Count] | None = setting(None, "epochs at which step lowers the rate")
    interval: Literal["step", "epoch"] = setting("step", "how often the rate changes")


class PretrainScheduler(Scheduler):
    """``scheduler`` of pre-training."""

    name: Literal["warmup_cosine", "step", "none", "barlow_cosine"] = setting(
        REQUIRED, "the schedule"
    )
    final_lr_ratio: Share = setting(1e-3, "of barlow_cosine: share of the rate at the end")
    first_epoch: NotNegative = setting(0.0, "of barlow_cosine: the epoch that it starts in")


class LinearScheduler(Scheduler):
    """``scheduler`` of linear evaluation."""

    name: Literal["warmup_cosine", "cosine", "step", "exponential", "reduce", "none"] = setting(
        REQUIRED, "the schedule"
    )
    gamma: float = setting(0.1, "factor of step", gt=0, le=1)


class Checkpoint(Section):
    """``checkpoint``."""

    enabled: bool = setting(True, "whether the weights are saved")
    dir: str = setting("trained_models", "folder of all runs")
    frequency: Count = setting(1, "epochs from one to the next; the last is always saved")
    keep_prev: bool = setting(False, "keep those before the last")


class OnlineKNN(Section):
    """``knn_eval``."""

    enabled: bool = setting(False, "online kNN accuracy")
    k: Count = setting(20, "neighbours")
    distance_func: Literal["cosine", "euclidean"] = setting("euclidean", "between features")


class WandB(Section):
    """``wandb``."""

    enabled: bool = setting(False, "log to Weights & Biases too")
    entity: str | None = setting(None, "the account")
    id: str | None = setting(None, "of the run to continue; null: the resumed one's, or a new one")
    project: str = setting("solo-learn", "the project")
    offline: bool = setting(False, "log without a connection")


class TensorBoard(Section):
    """``tensorboard``."""

    enabled: bool = setting(False, "log for TensorBoard too")


class Performance(Section):
    """``performance``."""

    disable_channel_last: bool = setting(False, "leave the memory layout as it is")
    compile: bool = setting(False, "compile backbone and projector")


class Numerics(Section):
    """``numerics``."""

    on_nonfinite: Literal["stop", "skip"] = setting("stop", "at a loss or gradient not finite")
    max_skipped: int = setting(10, "steps in a row that may be skipped", ge=0)
    warn_of_collapse: bool = setting(True, "warn of dimensions that are constant")


class Diagnostics(Section):
    """``diagnostics``."""

    enabled: bool = setting(False, "measure held-out images during pre-training")
    every_n_epochs: Count = setting(1, "epochs from one measurement to the next")
    images: Count = setting(2048, "how many images, rounded down to whole batches")
    keep_best: bool = setting(False, "keep the checkpoint of the epoch with the best features")
    picture: int = setting(0, "images in a picture of features at the end; 0: none", ge=0)


class Dali(Section):
    """``dali``, of data.format=dali."""

    device: Literal["gpu", "cpu"] = setting("gpu", "where images are decoded and augmented")
    encode_indexes_into_labels: bool = setting(False, "solo-learn's")


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

    name: str = setting("model", "of the checkpoints")
    max_epochs: Count = setting(REQUIRED, "epochs of training")
    max_steps: Annotated[int, Ge(-1), Le(-1)] | Count = setting(
        -1, "most steps", expected="a whole number of at least 1, or -1 for no limit"
    )
    max_time: Annotated[str, A_TIME] | dict[TimeUnit, Annotated[int, Ge(0)]] | None = setting(
        None, "longest time", expected="days:hours:minutes:seconds, such as 00:12:00:00"
    )
    fast_dev_run: bool | Count = setting(False, "a try of a few batches, which writes nothing")
    seed: int = setting(5, "of weights, batches and augmentations", ge=0, le=2**32 - 1)
    checkpoint: Checkpoint = section("what is saved")
    performance: Performance = section("how it is computed")
    numerics: Numerics = section("what is done about NaN, infinity and collapse")
    wandb: WandB = section("logging")
    tensorboard: TensorBoard = section("logging")
    dali: Dali = section("of data.format=dali")
    resume_from_checkpoint: str | None = setting(None, "a checkpoint, or auto")
    accelerator: Literal["auto", "gpu", "cuda", "cpu"] = setting("auto", "auto: GPUs if there")
    devices: int | str | list[int] | None = setting(
        "auto",
        "all GPUs, or one process on the CPU",
        expected="a positive number, a list of different ids such as [0, 1], or 'auto'",
    )
    num_nodes: int = setting(1, "machines", ge=1, le=4096)
    strategy: (
        Literal[
            "auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"
        ]
        | None
    ) = setting("auto", "how processes share the work")
    sync_batchnorm: bool = setting(False, "statistics of all processes together")
    precision: Literal[
        16, 32, 64, "16", "32", "64", "bf16", "16-mixed", "bf16-mixed", "16-true", "bf16-true",
        "32-true", "64-true"
    ] = setting(
        32,
        "of weights and of what is computed",
        expected="one of 16, 32, 64, bf16, 16-mixed, bf16-mixed, 16-true, bf16-true, 32-true, "
        "64-true",
    )  # fmt: skip
    accumulate_grad_batches: Count | None = setting(1, "batches of a step")
    gradient_clip_val: NotNegative | None = setting(None, "largest gradient")
    gradient_clip_algorithm: Literal["norm", "value"] | None = setting(None, "norm where null")
    limit_train_batches: Batches | None = setting(None, "batches, or share, of an epoch")
    limit_val_batches: Batches | None = setting(None, "likewise")
    check_val_every_n_epoch: Count = setting(1, "epochs from one validation to the next")
    num_sanity_val_steps: int = setting(2, "validation batches before training", ge=-1)
    log_every_n_steps: Count = setting(50, "steps from one entry to the next")
    enable_progress_bar: bool = setting(True, "the bar")
    enable_model_summary: bool = setting(True, "the table of layers")
    deterministic: bool | Literal["warn"] | None = setting(None, "algorithms that repeat exactly")
    benchmark: bool | None = setting(None, "let cuDNN try its algorithms")
    detect_anomaly: bool = setting(False, "name the operation that gives NaN; slow")
    profiler: Literal["simple", "advanced"] | None = setting(
        None, "times of each part, in fit-profile-0.txt of the run's folder"
    )


class PretrainConfig(Training):
    """A config of ``mixbt-pretrain``."""

    method: str = setting(REQUIRED, "one of the registered methods")
    method_kwargs: dict[str, Any] = setting({}, "the method's keys")
    pretrained_feature_extractor: str | None = setting(
        None, "path of weights that the backbone starts from"
    )
    backbone: Backbone = section("the network")
    data: PretrainData = section("the images")
    augmentations: Annotated[list[Pipeline], Len(1)] = setting(
        REQUIRED, "pipelines, each of which gives views", expected="a list of pipelines"
    )
    optimizer: PretrainOptimizer = section("the optimiser")
    scheduler: PretrainScheduler = section("the learning rate over time")
    diagnostics: Diagnostics = section("what is measured without labels")
    knn_eval: OnlineKNN = section("kNN beside the training")
    momentum: dict[str, Any] | None = setting(None, "of solo-learn's momentum methods")


class LinearSettings(Section):
    """How linear evaluation uses the backbone."""

    finetune: bool = setting(False, "train the backbone too")
    backbone_batch_norm: Literal["eval", "train"] | None = setting(
        None, "mode of the backbone's batch-norm; null: train in fine-tuning alone"
    )
    feature_passes: int = setting(1, "views whose mean is an image's features", ge=1, le=1024)


class LinearConfig(LinearSettings, Training):
    """A config of ``mixbt-linear``."""

    pretrained_feature_extractor: str = setting(REQUIRED, "path of a checkpoint of pre-training")
    pretrain_method: str | None = setting(None, "that of args.json where null")
    auto_augment: bool = setting(False, "solo-learn's own script's")
    label_smoothing: Share = setting(0.0, "of the loss")
    mixup: NotNegative = setting(0.0, "alpha of mixup")
    cutmix: NotNegative = setting(0.0, "alpha of CutMix")
    backbone: PretrainedBackbone = section("the network")
    data: LinearData = section("the images")
    augmentations: list[LinearPipeline] | None = setting(
        None,
        "of training images; null: random crops, mirrored; []: none",
        expected="a list of pipelines, or null",
    )
    optimizer: LinearOptimizer = section("the optimiser")
    scheduler: LinearScheduler = section("the learning rate over time")


def complete(cfg: DictConfig, declaration: type[Training]) -> None:
    """Fills in the defaults of a config of a training, those of its optimiser too, in place."""
    fill_in(cfg, declaration)
    cfg.optimizer.kwargs = OmegaConf.create(cfg.optimizer.kwargs or {})
    fill_in(cfg.optimizer.kwargs, OPTIMIZER_KWARGS[cfg.optimizer.name])


class Evaluation(Section):
    """What kNN and export share."""

    pretrained_checkpoint: str = setting(REQUIRED, "the path of a checkpoint")
    pretrain_method: str | None = setting(None, "that of args.json where null")
    backbone: PretrainedBackbone = section("the network")
    data: OtherData = section("the images")


class Extraction(Evaluation):
    """What the commands share that compute features."""

    batch_size: int = setting(256, "images at once", ge=1)
    num_workers: int = setting(0, "processes that load images", ge=0, le=1024)
    accelerator: Literal["auto", "gpu", "cuda", "cpu"] = setting("auto", "auto: a GPU if there")


class KNNConfig(Extraction):
    """A config of ``mixbt-knn``."""

    k: Annotated[list[Count], ToList, Len(1)] = setting([20, 200], "neighbours")
    temperature: Annotated[list[Annotated[float, Gt(0)]], ToList, Len(1)] = setting(
        [0.07, 0.5], "of the cosine distance"
    )
    distance_function: Annotated[list[Literal["cosine", "euclidean"]], ToList, Len(1)] = setting(
        ["cosine", "euclidean"], "between features"
    )
    feature_type: Annotated[list[Literal["backbone", "projector"]], ToList, Len(1)] = setting(
        ["backbone", "projector"], "whose features"
    )


class ExportConfig(Evaluation):
    """A config of ``mixbt-export``."""

    format: Literal["timm", "torchvision", "onnx"] = setting("timm", "what loads the file")
    folder: str | None = setting(None, "beside the checkpoint, named after the format, where null")


class FolderOrData(Extraction):
    """What the commands share that take any folder of images."""

    images: str | None = setting(None, "a folder of images, in folders of any depth; null: data's")

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

    split: Literal["train", "val"] | None = setting(None, "of data; null: val")
    feature_type: Literal["backbone", "projector"] = setting("backbone", "whose features")
    folder: str | None = setting(None, "of the vectors; null: embeddings/ beside the checkpoint")
    format: Literal["npz", "parquet"] = setting("npz", "of the files in it")
    shard: Count = setting(100_000, "vectors in a file, and at most in memory")
    queries: list[str] = setting(
        [], "images whose neighbours are drawn: paths, or names among the images"
    )
    neighbours: int = setting(8, "of each of queries", ge=1, le=100)
    picture: int = setting(5000, "vectors in the picture, evenly spread; 0: no picture", ge=0)


class DiagnoseConfig(FolderOrData):
    """A config of ``mixbt-diagnose``."""

    count: Annotated[int, Ge(2)] = setting(2048, "how many images, evenly spread over all")
    picture: bool = setting(True, "of the spectra and of the embeddings' correlation")

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
    overrides: list[str] = setting([], "of this arm, after those of all")


class CompareBudget(Section):
    """``budget`` of a comparison."""

    unit: Literal["epochs", "steps", "images", "seconds"] = setting(
        "epochs", "what every run spends; the whole epochs that come nearest are trained"
    )
    amount: float = setting(REQUIRED, "how many; seconds are of training alone", gt=0)
    clock: Literal["wall", "cpu"] = setting(
        "wall", "what counts seconds; cpu: those of a core, for machines that are shared"
    )

    @model_validator(mode="after")
    def _whole_epochs(self) -> CompareBudget:
        if self.unit == "epochs" and self.amount != int(self.amount):
            raise ValueError(f"amount={self.amount}: expected a whole number of epochs.")
        return self


class CompareEvaluation(Section):
    """``evaluation`` of a comparison."""

    epochs: Count | Annotated[list[Count], Len(1)] = setting(
        10,
        "how many, evenly spaced, or which; the untrained network and the last epoch always",
        expected="a whole number of at least 1, or a list of them",
    )
    split: Literal["test", "validation"] = setting(
        "test", "validation: a sixth of the training images, for choosing among settings"
    )
    knn_k: Count = setting(20, "neighbours among all labelled images, by cosine")
    knn_temperature: float = setting(0.07, "of the kNN", gt=0)
    linear_labels: Count | None = setting(6000, "of the linear probe; null: all")
    labels_per_class: Count = setting(10, "of the linear probe with few labels")
    draws: Count = setting(5, "of these labels, of which the mean is taken")


class CompareConfig(Section):
    """A config of ``mixbt-compare``."""

    title: str = setting("", "of the table and the pictures")
    output_dir: str = setting(REQUIRED, "folder of runs, table and pictures")
    arms: dict[str, Any] = setting(
        REQUIRED, "what is compared, by name", min_length=1, expected="at least one arm"
    )
    seeds: Annotated[list[Annotated[int, Ge(0), Le(2**32 - 1)]], ToList, Len(1)] = setting(
        [5], "a run of each arm for each"
    )
    overrides: list[str] = setting([], "of all arms")
    budget: CompareBudget = section("what every run spends")
    evaluation: CompareEvaluation = section("when and how runs are measured")
    jobs: Count = setting(1, "runs side by side")
    threads: Count | None = setting(1, "of each run; null leaves them to PyTorch")

    @model_validator(mode="after")
    def _names_and_seeds(self) -> CompareConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds}: expected different ones.")
        for name in self.arms:
            if not re.fullmatch(r"[\w-]+", name):
                raise ValueError(f"arms.{name}: expected a name of letters, digits, - and _.")
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
