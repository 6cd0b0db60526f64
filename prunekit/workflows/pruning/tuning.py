"""The second half of a stage: train the cut network on, from the weights and with the help that were asked for."""

from dataclasses import replace

from prunekit.modelfile import LoadedModel, load_model, read_card, rebuild, save_model
from prunekit.models.segmenter import Segmenter
from prunekit.pruning.surgery import Plan, Slice, prune_
from prunekit.recipe import Recipe
from prunekit.run import RunDirectory
from prunekit.training.extras import Extras
from prunekit.training.loop import fit
from prunekit.training.losses import Teacher
from prunekit.training.seeding import seeded
from prunekit.training.snapshots import load_rewind_
from prunekit.workflows.pruning.job import Job
from prunekit.workflows.pruning.report import StageReport

_INITIAL = 0x1217  # keeps the draws of new weights apart from those of order and augmentation


def tune(stage: StageReport, source: RunDirectory, job: Job) -> StageReport:
    """Fine-tune a stage's network, or go on where that was interrupted; return the stage's report, finished.

    Raises:
        RunError: the network as cut or the source lacks what is needed.
        PrunekitError: see `fit`.
    """
    run = job.stage_run(stage.number)
    loaded = load_model(job.cut_run(stage.number), trust_code=job.trust_code)
    recipe = job.stage_recipe(stage.number)
    if stage.epochs == 0:
        run.clear_leftovers()
        run.write_recipe(recipe)
        save_model(run, loaded.segmenter, loaded.card)
        return replace(stage, tuned=True)
    job.tell(f"Fine-tuning for {stage.epochs} epochs")
    segmenter = _initial(loaded, source, job)
    result = fit(
        segmenter,
        recipe,
        run,
        train_set=job.train_set,
        val_set=job.val_set,
        card=loaded.card,
        observer=job.observer,
        extras=_extras(source, recipe, job),
        held=run.path == job.target.path,
    )
    return replace(stage, miou_after=result.miou, tuned=True)


def _initial(loaded: LoadedModel, source: RunDirectory, job: Job) -> Segmenter:
    """Return the network as cut, with the weights that the fine-tuning starts from."""
    if job.config.init == "pruned":
        return loaded.segmenter
    if job.config.init == "random":
        with seeded(job.config.seed, _INITIAL):
            return _fresh(loaded, job)
    return _rewound(loaded, source, job)


def _fresh(loaded: LoadedModel, job: Job) -> Segmenter:
    """Return the cut network with the weights its factory draws: "rethinking" (Liu et al. 2019, arXiv 1810.05270).

    The dense network is drawn and then cut, so the scale of the weights is that of the dense layers' fans.
    """
    return rebuild(loaded.card, trust_code=job.trust_code)


def _rewound(loaded: LoadedModel, source: RunDirectory, job: Job) -> Segmenter:
    """Return the cut network with the weights that the source had after an early epoch (lottery ticket)."""
    card = read_card(source)
    segmenter = rebuild(card, trust_code=job.trust_code)
    load_rewind_(segmenter.network, source)
    whole = Plan.from_json(loaded.card.plan or {})
    prune_(segmenter.network, whole if card.plan is None else _rest(whole, Plan.from_json(card.plan)))
    return segmenter


def _rest(whole: Plan, first: Plan) -> Plan:
    """Return the plan that makes `whole` when it follows `first`."""
    done = {(row.parameter, row.dim): row.keep for row in first.slices}
    slices: list[Slice] = []
    for row in whole.slices:
        there = done.get((row.parameter, row.dim), tuple(range(row.width)))
        place = {position: index for index, position in enumerate(there)}
        slices.append(Slice(row.parameter, row.dim, len(there), tuple(place[position] for position in row.keep)))
    return Plan(tuple(slices), whole.groups)


def _extras(source: RunDirectory, recipe: Recipe, job: Job) -> Extras | None:
    """Return the source network as a teacher if the recipe asks for one."""
    if recipe.train.distill == "none":
        return None
    return Extras(teacher=Teacher(load_model(source, trust_code=job.trust_code).segmenter))
