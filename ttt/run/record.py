"""What a run writes about itself: before it starts its config, what it runs on and what its
sequences look like; in the end its page."""

from __future__ import annotations

from omegaconf import OmegaConf

from ttt.devices.one_device import Devices
from ttt.learner import Engine
from ttt.probes.causality import ProbeSizes, probe_causality, unprobed
from ttt.run.assemble import Assembly
from ttt.run.watcher import Watcher
from ttt.sinks.base import first_line
from ttt.storage.environment import environment
from ttt.storage.files import write_bytes, write_json
from ttt.storage.run_folder import RunFolder
from ttt.stream import sample_texts


def causal_line(assembly: Assembly, fabric: Devices) -> str:
    """Which conditions of causality the run satisfies, by a few flips in one short sequence.

    The learner stays as it is, but for moving to the device where it will be trained. A probe that
    fails costs no result.
    """
    learner, chunk = assembly.learner, assembly.config["adapter"].get("chunk")
    if assembly.settings.world.strategy == "fsdp":
        return "not probed: parameters are cut over devices"
    token_RT = assembly.stream.tasks[0].evaluation().tokens_BT[:1]
    why = unprobed(learner, token_RT)
    if why:
        return f"not probed: {why}"
    sizes = ProbeSizes.brief(length=token_RT.shape[1], chunk=chunk)
    announces = any(phase.announced for phase in assembly.stream.phases)
    never = ", though no task is announced" if learner.adapter.reset == "task" and not announces else ""
    try:
        with fabric.autocast():
            return probe_causality(learner.to(fabric.device), token_RT, chunk=chunk, sizes=sizes).line() + never
    # Parts of the user's own take part in the probe, and may raise anything.
    except Exception as error:
        return f"not probed: {type(error).__name__}: {first_line(error)}"


def record_run(
    assembly: Assembly, folder: RunFolder, engine: Engine, *, causal: str, resumed: bool, watcher: Watcher
) -> None:
    """Write config.yaml, environment.json (`causal`: what the run says of itself) and samples.json.

    Note it when a resumed run began with other code.
    """
    stream, source = assembly.stream, assembly.source
    data = {
        "source": source.fingerprint,
        "rows": source.rows,
        "base": stream.base.fingerprint if stream.base else None,
        "tasks": [task.fingerprint for task in stream.tasks],
    }
    content = environment(code=assembly.code, data=data, device=engine.fabric.device) | {"causal": causal}
    content |= {"base": assembly.base.record, "group": assembly.info.group}
    if resumed and folder.recorded_code() not in (None, content["code"]):
        watcher.note("this run began with other code: its rows are not all measured alike")
    write_bytes(folder.config, OmegaConf.to_yaml(OmegaConf.create(assembly.config)).encode())
    write_json(folder.environment, content)
    write_json(folder.samples, sample_texts(stream))


def write_page(folder: RunFolder, watcher: Watcher) -> None:
    """Write the run's page; a picture that fails costs no result."""
    # Imported here: matplotlib takes its time.
    from ttt.report.one import write_run

    try:
        write_run(folder.path)
    except Exception as error:
        watcher.note(f"no report: {type(error).__name__}: {first_line(error)}")
