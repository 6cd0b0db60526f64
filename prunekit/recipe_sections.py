"""The sections of the recipe: every key with its default, its range and what it means."""

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from prunekit.recipe_values import (
    MAX_MASK_VALUES,
    OWN_DATA,
    ClassWeights,
    DataName,
    DataSetName,
    IgnoredNumbers,
    MaskValues,
    Mean,
    Std,
    Text,
    fraction,
)

MAX_SIDE: Final = 1 << 14  # px, as the preprocessing contract has it
MAX_SCALE: Final = 16
MAX_COUNT: Final = 10**6  # of epochs, steps, images: above any training, below what arithmetic and lists bear
MAX_BATCH: Final = 1 << 16
MAX_WEIGHT: Final = 1e6  # of a loss; a sum of such losses is finite in float32
MAX_THREADS: Final = 1024  # the OpenMP library ends the process where the system has no room for so many

# Statistics of ImageNet's training images, RGB in [0, 1], which pretrained encoders were normalised with.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
MAX_PATTERNS: Final = 100
Patterns = tuple[Text, ...]


class Section(BaseModel):
    """A part of the recipe: frozen, strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class DataConfig(Section):
    """Which images, and how a training sample is drawn from one."""

    name: DataSetName = Field(
        default="shapes", description=f"data set: {', '.join(get_args(DataName))} or python:package.module:Class"
    )
    root: Text = Field(default="", description="folder of the data set (all but shapes)")
    classes: Text = Field(default="", description="class list, TOML, text or CSV, for the folder data set")
    images: Text = Field(
        default="", description="pattern of the images below root, such as img/{split}/{name}.jpg (folder)"
    )
    masks: Text = Field(default="", description="pattern of their masks, such as annotations/{split}/{name}_mask.png")
    mask_values: MaskValues = Field(
        default=(),
        max_length=MAX_MASK_VALUES,
        description="number of each class in index masks, such as 0,255 or 1-150; empty: 0, 1, 2, ... (folder)",
    )
    ignore_index: IgnoredNumbers = Field(
        default=(),
        max_length=MAX_MASK_VALUES,
        description="numbers in masks that do not count, such as 0,255; empty: as the class list says (folder)",
    )
    white_level: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="number that is white in 16-bit images, such as 4095; 0: 65535, nearly black ones refused (folder)",
    )
    allow_absent_classes: bool = Field(
        default=False, description="train even if a class has no training pixel, or masks hold only 0 and 255"
    )
    allow_mostly_ignored: bool = Field(
        default=False, description="train even if more than half of the pixels are ignored"
    )
    root_from_run: Text = Field(default="", description="written by prunekit: root relative to the run")
    classes_from_run: Text = Field(
        default="", description="written by prunekit: classes relative to the run, for moved data"
    )
    height: int = Field(default=128, ge=32, le=MAX_SIDE, description="height of the network's input [px]")
    width: int = Field(default=192, ge=32, le=MAX_SIDE, description="width of the network's input [px]")
    channels: Literal["rgb", "bgr"] = Field(default="rgb", description="channel order that the network expects")
    pixel_scale: Annotated[float, BeforeValidator(fraction)] = Field(
        default=1 / 255, ge=1e-6, le=1e6, description="factor for pixel values of 0 to 255, applied before mean and std"
    )
    mean: Mean = Field(
        default=IMAGENET_MEAN, description="mean of each channel after scaling, in the order of `channels`"
    )
    std: Std = Field(default=IMAGENET_STD, description="standard deviation of each channel after scaling")
    crop_height: int = Field(
        default=0, ge=0, le=MAX_SIDE, description="height of a training crop [px]; 0 takes the full height"
    )
    crop_width: int = Field(
        default=0, ge=0, le=MAX_SIDE, description="width of a training crop [px]; 0 takes the full width"
    )
    scale_min: float = Field(default=0.75, ge=1e-2, le=MAX_SCALE, description="smallest random scale")
    scale_max: float = Field(default=1.5, ge=1e-2, le=MAX_SCALE, description="largest random scale")
    flip: float = Field(default=0.5, ge=0, le=1, description="probability of a horizontal flip")
    colour: float = Field(default=0.2, ge=0, lt=1, description="strength of brightness, contrast and saturation jitter")
    sampler: Literal["uniform", "balanced"] = Field(
        default="uniform", description="draw every image once, or every class equally often and crop around it"
    )
    train_images: int = Field(default=256, ge=1, le=MAX_COUNT, description="training images to generate (shapes)")
    val_images: int = Field(default=64, ge=1, le=MAX_COUNT, description="validation images to generate (shapes)")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the generated scenes (shapes)")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min {self.scale_min} is above scale_max {self.scale_max}; swap them")
        if self.name == "shapes" and (self.root or self.classes):
            raise ValueError("root and classes belong to data in files; shapes is generated. Name the data set too")
        own = self.name.startswith(OWN_DATA)
        for key in ("mask_values", "images", "masks", "white_level", *(["classes"] if own else ["ignore_index"])):
            if self.name != "folder" and getattr(self, key):
                raise ValueError(f"{key} belongs to the folder data set, and name is {self.name}; leave it out")
        if bool(self.images) != bool(self.masks):
            raise ValueError("images and masks are two patterns that go together; give both, or none")
        return self


class ModelConfig(Section):
    """Which network."""

    name: Text = Field(
        default="python:prunekit.models.street:street_net",
        description="smp:NAME?encoder=..., torchvision:NAME, hf:FOLDER or python:package.module:factory?arg=...",
    )
    head: Literal["plain", "ccs"] = Field(
        default="plain",
        description="classifier: the network's own, or class center similarity, whose centers adapt to the scene",
    )
    pretrained: bool = Field(
        default=False,
        description="start from the library's pretrained encoder; mean and std become those of its weights unless set",
    )
    weights: Text = Field(
        default="",
        description="file of weights to start from, .safetensors or .pth; not needed to resume the run",
    )
    weights_part: Text = Field(
        default="", description="which mapping in that file, such as ema; empty takes the one that fits best"
    )
    allow_missing: Patterns = Field(
        default=(), max_length=MAX_PATTERNS, description="tensors that the file may lack, such as segmentation_head.*"
    )
    allow_unexpected: Patterns = Field(
        default=(), max_length=MAX_PATTERNS, description="tensors in the file that the network may lack"
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.pretrained and self.weights:
            raise ValueError("pretrained and weights are two starts; leave one out")
        return self


class TrainConfig(Section):
    """How the network is trained."""

    epochs: int = Field(default=20, ge=1, le=MAX_COUNT, description="passes over the training images")
    batch_size: int = Field(
        default=8,
        ge=1,
        le=MAX_BATCH,
        description="images per training step; an incomplete last batch is dropped",
    )
    budget: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the steps to take; epochs get shorter and the learning rate falls within them",
    )
    optimiser: Literal["sgd", "adamw"] = Field(
        default="adamw", description="optimiser; sgd uses the poly schedule, adamw cosine, unless `schedule` is set"
    )
    schedule: Literal["auto", "poly", "cosine"] = Field(
        default="auto", description="learning-rate schedule after warm-up"
    )
    lr: float = Field(default=2e-3, gt=0, le=1000, description="highest learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum (sgd)")
    weight_decay: float = Field(default=1e-2, ge=0, le=1000, description="not applied to norms and biases")
    poly_power: float = Field(default=0.9, gt=0, le=100, description="exponent of the poly schedule")
    warmup_steps: int = Field(
        default=20, ge=0, le=MAX_COUNT, description="steps of linear warm-up, at most a tenth of all steps"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="number format of training; fp16 uses a gradient scaler"
    )
    qat: bool = Field(
        default=False,
        description="quantisation-aware: weights and inputs of products are rounded to int8, as an int8 export will",
    )
    channels_last: bool = Field(default=True, description="memory format of images and weights")
    clip_norm: float = Field(
        default=5.0, ge=0, le=MAX_WEIGHT, description="limit of the gradient norm; 0 disables clipping"
    )
    loss: Literal["ce", "ohem", "focal", "gsrl"] = Field(
        default="ce",
        description="cross-entropy; of hard pixels (ohem); focal; or rebalanced towards rare classes "
        "and ambiguous pixels (gsrl)",
    )
    class_weights: ClassWeights = Field(
        default="none",
        description="weights of the classes in the loss: from their frequency, to the power -1/2 (sqrt) or "
        "-1 (inverse), or a list (ce, ohem, focal)",
    )
    ohem_threshold: float = Field(
        default=0.7, ge=0, le=1, description="pixels whose true class is less probable are hard (loss = ohem)"
    )
    ohem_min_share: float = Field(
        default=0.0625, ge=0, le=1, description="share of the pixels that counts as hard at least (loss = ohem)"
    )
    focal_gamma: float = Field(default=2.0, ge=0, le=100, description="exponent of the focal loss (loss = focal)")
    dice_weight: float = Field(default=0.0, ge=0, le=MAX_WEIGHT, description="weight of the Dice loss, added")
    lovasz_weight: float = Field(
        default=0.0, ge=0, le=MAX_WEIGHT, description="weight of the Lovasz-softmax loss, added"
    )
    aux_weight: float = Field(default=0.4, ge=0, le=MAX_WEIGHT, description="weight of each auxiliary head's loss")
    ccs_coarse_weight: float = Field(
        default=0.4, ge=0, le=MAX_WEIGHT, description="weight of the coarse classifier's CE (head = ccs)"
    )
    ccs_inter_weight: float = Field(
        default=0.1, ge=0, le=MAX_WEIGHT, description="weight of the inter-class centre loss (head = ccs)"
    )
    ccs_intra_weight: float = Field(
        default=0.2, ge=0, le=MAX_WEIGHT, description="weight of the intra-class distance loss (head = ccs)"
    )
    sparsity: Literal["none", "l1", "polarisation", "group", "mask"] = Field(
        default="none",
        description="regularisation towards prunable channels; group and mask are available in prune only",
    )
    sparsity_weight: float = Field(
        default=1e-4, gt=0, le=MAX_WEIGHT, description="strength of the regularisation, as a share of the gradient"
    )
    polarisation_t: float = Field(
        default=1.4,
        ge=0,
        le=MAX_WEIGHT,
        description="weight of L1 against the spread of the scales (sparsity = polarisation)",
    )
    distill: Literal["none", "logits", "channel"] = Field(
        default="none",
        description="distillation from the dense network's logits, per pixel or per class map (prune only)",
    )
    distill_weight: float = Field(default=1.0, gt=0, le=MAX_WEIGHT, description="weight of the distillation loss")
    distill_temperature: float = Field(default=4.0, ge=1e-2, le=100, description="temperature of the distillation")
    rewind_epoch: int = Field(
        default=0,
        ge=0,
        le=MAX_COUNT,
        description="save the weights after this epoch, to rewind a pruned network to them; 0 saves none",
    )
    eval_every: int = Field(
        default=5, ge=1, le=MAX_COUNT, description="epochs between evaluations; the last epoch is always evaluated"
    )
    checkpoint_every: int = Field(default=1, ge=1, le=MAX_COUNT, description="epochs between checkpoints")
    workers: int = Field(default=0, ge=0, le=256, description="data-loading processes; 0 loads in the training process")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto uses CUDA if available")
    threads: int = Field(default=0, ge=0, le=MAX_THREADS, description="CPU threads; 0 lets torch choose")
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="random seed of initial weights, image order and augmentation"
    )
    cache: bool = Field(default=True, description="keep decoded images in memory")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.rewind_epoch > self.epochs:
            raise ValueError(f"rewind_epoch {self.rewind_epoch} is after the last of {self.epochs} epochs; lower it")
        if self.loss == "gsrl" and self.class_weights != "none":
            raise ValueError("gsrl has weights of its own; set class_weights to none, or loss to ce, ohem or focal")
        return self


class SelectionConfig(Section):
    """Which samples are trained on."""

    strategy: Literal["none", "random", "pfb", "rs2", "classes"] = Field(
        default="none",
        description="random and pfb (partial forward blocking) skip images of each batch; rs2 (random subsets) and "
        "classes (views that even out the classes) choose before images are drawn and take fewer steps",
    )
    ratio: float = Field(
        default=0.4, ge=0, lt=1, description="share of each batch to skip (random, pfb), or of the run's steps to save"
    )
    start: float = Field(default=0.05, ge=0, le=1, description="no skipping before this share of the epochs")
    end: float = Field(default=0.87, ge=0, le=1, description="no skipping after this share of the epochs")
    ramp: bool = Field(
        default=True,
        description="increase the share from 20 % of the ratio at start to all of it half-way to end (random, pfb)",
    )
    pool: float = Field(default=2.0, ge=1, le=64, description="views to choose from for each one taken (classes)")
    stem: Text = Field(
        default="", description="module whose output scores an image (pfb); empty chooses one at a quarter of the MACs"
    )
    centres: int = Field(default=64, ge=2, le=4096, description="cluster centres of the density estimate")
    descriptor: int = Field(default=128, ge=1, le=4096, description="length of a sample's descriptor")
    alpha: float = Field(default=0.01, gt=0, lt=1, description="update rate of the cluster centres")
    noise: float = Field(
        default=0.5,
        ge=0,
        le=MAX_WEIGHT,
        description="noise added to the score, in standard deviations of the batch's scores",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}; swap them")
        return self
