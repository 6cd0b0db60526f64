"""`prunekit.export`: a run or a module in, ONNX, its contract and an engine out. K classes, H W the network's size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from prunekit_export.errors import ExportUsageError
from prunekit_runtime.spelling import in_python

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from prunekit.data.dataset import ClassMap
    from prunekit.models.segmenter import Segmenter
    from prunekit.workflows.library.progress import Progress
    from prunekit_export.engine import EngineOptions, Profile
    from prunekit_export.quantising import Calibration, LabelledPicture
    from prunekit_export.request import ExportRequest, ExportSummary, PictureSize
    from prunekit_export.workflow import ExportConfig, Fold, Precision
    from prunekit_runtime.preprocessing import Preprocessing


@in_python()
def export(
    source: str | os.PathLike[str] | nn.Module,
    out_dir: str | os.PathLike[str] | None = None,
    *,
    size: tuple[int, int] | None = None,
    precision: Precision = "fp32",
    fold: Fold = "exact",
    trt: bool = False,
    tf32: bool = False,
    engine: EngineOptions | None = None,
    profile: Profile | None = None,
    batch: int = 1,
    dynamic: bool = False,
    end2end: bool = False,
    picture_size: PictureSize = None,
    confidence: bool = False,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    images: Sequence[Tensor] = (),
    keep_fp32: Sequence[str] = (),
    calibration: Calibration = "entropy",
    max_miou_drop: float = 0.5,
    labelled: Sequence[LabelledPicture] = (),
    root: str | os.PathLike[str] | None = None,
    trust_code: bool = False,
    progress: bool | Progress = False,
) -> ExportSummary:
    """Write a network as ONNX with its preprocessing, checked against torch, as `prunekit export` does.

    Args:
        source: a run's folder, the network that `prunekit.load` gives, or any network images_B3HW -> logits.
        out_dir: new or empty; None writes to `export` in the run's folder. A network needs one.
        size: height and width of the input [px], multiples of the network's stride; None takes that of the
            preprocessing.
        precision: "fp16" adds model.fp16.onnx, "int8" model.int8.onnx, and the engine is built from that; "auto" is
            int8 with the layers in fp16 that the mIoU needs there.
        fold: what becomes of batch norms and the CCS head: "exact", "static" (centres of the mean scene) or "none".
        trt: build a TensorRT engine.
        tf32: let float32 layers of the engine round to 10 bits of mantissa; on Ampere and later that is faster.
        engine: how the engine is built: `prunekit_export.engine.EngineOptions`.
        profile: sizes that the engine takes where the file leaves them open: `prunekit_export.engine.Profile`.
        batch: images at once, when not `dynamic`.
        dynamic: leave batch, height and width open.
        end2end: also write files from uint8 pictures (N, H, W, 3) to labels; an engine is built from such a file.
        picture_size: height and width of those pictures [px], or "any"; None is the size that all validation images
            have, or the preprocessing's.
        confidence: let such a file also give the share of the winning class, 255 for 1.
        preprocessing: how an image becomes the network's input, for a network that does not say.
        class_names: K names, for a network that does not say; None counts them: "class 0", ...
        images: prepared training images_B3HW, for a network where "fp16", "int8" or "static" needs some; a run finds
            its own.
        keep_fp32: names of nodes that stay in float32, besides those that would overflow.
        calibration: how int8 finds the range of an activation: "entropy", "percentile" or "minmax".
        max_miou_drop: points of mIoU that fp16, bf16 or int8 may cost.
        labelled: pictures, RGB uint8 (H, W, 3), each with the class of every pixel, uint8 (H, W), 255 for none, by
            which fp16 and int8 of a network are judged; int8 needs some, and a run finds its own.
        root: folder of a run's data, where it is no longer where the run says.
        trust_code: allow a run that somebody else made to run its own Python factory.
        progress: True writes a line a step to the standard error stream; or a function of (step, done, total).

    Returns:
        the files written, and what was measured on the way.

    Raises:
        PrunekitError: the source cannot be loaded, folded or exported as asked.
    """
    from torch import nn

    from prunekit.workflows.library.progress import stages_of
    from prunekit_export.workflow import ExportConfig, engine_of

    height, width = size or (0, 0)
    config = ExportConfig(
        precision=precision,
        fold=fold,
        trt=trt,
        engine=engine_of(engine, tf32=tf32),
        profile=profile,
        height=height,
        width=width,
        batch=batch,
        dynamic=dynamic,
        end2end=end2end,
        picture_size=picture_size,
        confidence=confidence,
        keep_fp32=tuple(keep_fp32),
        calibration=calibration,
        max_miou_drop=max_miou_drop,
    )
    tell = stages_of(progress)
    if not isinstance(source, nn.Module):
        if preprocessing is not None or class_names is not None or len(images) or len(labelled):
            raise ExportUsageError(
                "A run has its own preprocessing, class names and images. Leave these out, or load the run and export "
                "the network: prunekit.export(prunekit.load(run), out_dir, ...)."
            )
        return _of_run(Path(source), out_dir, config, root, trust_code, tell)
    if out_dir is None:
        raise ExportUsageError("A network has no folder of its own. Name one: prunekit.export(network, out_dir).")
    return _of_network(source, Path(out_dir), config, preprocessing, class_names, images, labelled, tell)


def _of_run(
    run: Path,
    out_dir: str | os.PathLike[str] | None,
    config: ExportConfig,
    root: str | os.PathLike[str] | None,
    trust_code: bool,
    tell: Callable[[str], None],
) -> ExportSummary:
    from prunekit.run import open_run
    from prunekit_export.staging import free_folder
    from prunekit_export.workflow import export_model

    source = open_run(run)
    folder = free_folder(source.path / "export") if out_dir is None else Path(out_dir)
    where = None if root is None else str(root)
    return export_model(source, config, folder, root=where, trust_code=trust_code, on_stage=tell).summary


def _of_network(
    network: nn.Module,
    out_dir: Path,
    config: ExportConfig,
    preprocessing: Preprocessing | None,
    class_names: Sequence[str] | None,
    images: Sequence[Tensor],
    labelled: Sequence[LabelledPicture],
    tell: Callable[[str], None],
) -> ExportSummary:
    from prunekit.workflows.library.loading import LoadedSegmenter
    from prunekit_export.pipeline import export_into
    from prunekit_export.staging import staged
    from prunekit_export.workflow import folded, input_size

    contract = preprocessing or (network.contract if isinstance(network, LoadedSegmenter) else None)
    if contract is None:
        raise ExportUsageError(
            "A network does not say how an image becomes its input. "
            "Give preprocessing=prunekit.Preprocessing(height, width, mean=..., std=...)."
        )
    height, width = input_size(contract, config)
    segmenter = _segmenter(network, contract, height, width)
    classes = _classes(network, segmenter.num_classes, class_names)
    with staged(out_dir) as stage:
        prepared = [image.detach().cpu() for image in images]
        segmenter, _ = folded(segmenter, config, prepared, tell)
        request = _request(segmenter, config, (height, width), contract, classes, prepared)
        return export_into(stage, dataclasses.replace(request, judged=labelled), tell)


def _request(
    segmenter: Segmenter,
    config: ExportConfig,
    size: tuple[int, int],
    contract: Preprocessing,
    classes: ClassMap,
    images: Sequence[Tensor],
) -> ExportRequest:
    from prunekit_export.request import ExportRequest

    return ExportRequest(
        segmenter,
        *size,
        contract,
        classes.names,
        classes.palette,
        batch=config.batch,
        dynamic=config.dynamic,
        precision=config.precision,
        trt=config.trt,
        engine=config.engine,
        profile=config.profile,
        end2end=config.end2end,
        picture_size=config.picture_size,
        confidence=config.confidence,
        calibration_method=config.calibration,
        keep_fp32=config.keep_fp32,
        max_drop=config.max_miou_drop / 100,
        calibration=images,
    )


def _segmenter(network: nn.Module, contract: Preprocessing, height: int, width: int) -> Segmenter:
    """Return a copy of the network on the CPU behind the contract; its stride is what the contract pads to.

    Raises:
        ExportError: it does not return logits of classes.
    """
    import copy

    import torch

    from prunekit.models.segmenter import Segmenter
    from prunekit.workflows.library.subject import Subject

    copied = copy.deepcopy(network).cpu().eval()
    if isinstance(copied, Segmenter):
        return copied
    found = Subject(copied).num_classes((torch.zeros(1, 3, height, width),))
    if found is None or found < 2:
        got = "no logits (B, classes, H, W)" if found is None else "one channel"
        raise ExportUsageError(
            f"The network returns {got}; prunekit exports networks with logits of at least 2 classes."
        )
    return Segmenter(copied, found, contract.pad_multiple).eval()


def _classes(network: nn.Module, count: int, names: Sequence[str] | None) -> ClassMap:
    """Return names and colours of the classes.

    Raises:
        ExportError: the names are not as many as the classes.
    """
    from prunekit.data.dataset import ClassMap
    from prunekit.data.labels.class_list import made_up_palette
    from prunekit.workflows.library.loading import LoadedSegmenter

    if names is None and isinstance(network, LoadedSegmenter):
        return network.classes
    if names is not None and len(names) != count:
        raise ExportUsageError(
            f"The network has {count} classes, and {len(names)} names were given. Give one per class."
        )
    colours = network.classes.palette if isinstance(network, LoadedSegmenter) else made_up_palette(count)
    return ClassMap(tuple(names or (f"class {index}" for index in range(count))), colours)
