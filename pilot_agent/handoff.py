"""The handoff: from the state to the keeper's plan. HTCondor's files are written and checked; nothing is started."""

from __future__ import annotations

import os
from dataclasses import replace

from pilot_agent import configure
from pilot_agent.benchmark_stage import plans_beside
from pilot_agent.facts import known_value
from pilot_agent.hookspecs import Periodic
from pilot_agent.lifecycle import plan
from pilot_agent.lifecycle.deadline import Deadline
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.plugins import condor, features, services
from pilot_agent.plugins.batch import hold_seconds
from pilot_agent.plugins.cvmfs_watching import watch_plan
from pilot_agent.programs import is_program
from pilot_agent.service_stage import kept
from pilot_agent.services.variables import READY, told_variables
from pilot_agent.stages import Session
from pilot_agent.startd.choice import NoCondorError
from pilot_agent.startd.plan import TIME_ATTRIBUTES, PluginFragment
from pilot_agent.startd.token import TOKEN_FILE, read_token
from pilot_agent.state import State
from pilot_agent.tasks import job_container, periodic_command

JOIN_PERIOD_SECONDS = 10.0
MASTER_LOG = "condor_master.out"
RENEW = "_renew"
GPU_PERIOD_SECONDS, GPU_TIMEOUT_SECONDS = 60.0, 45.0

__all__ = ["NoCondorError", "keeper_plan", "service_plans"]


def keeper_plan(session: Session, state: State) -> tuple[plan.KeeperPlan, State]:
    """The keeper's plan, and the state with the attributes of the machine ad as planned and the HTCondor that runs.

    Raises ``PilotError`` for everything that keeps HTCondor from being started as it must be: ``NoCondorError`` where
    there is none.
    """
    handoff = condor.prepare(_inputs(session, state), wake=session.around.wake)
    taken = handoff.condor
    told = {"source": taken.source, "place": taken.place, "version": taken.version, "took_seconds": taken.seconds}
    session.events.write("condor.taken", **told)
    environment = dict(handoff.environment)
    master = plan.MasterPlan(
        argv=handoff.master_argv,
        environment=environment,
        directory=session.workspace.condor,
        log=os.path.join(handoff.log_directory, MASTER_LOG),
    )
    join = plan.JoinPlan(
        commands=handoff.join_commands,
        clock_commands=handoff.clock_commands,
        collectors=handoff.collectors,
        environment=environment,
        seconds=handoff.join_seconds,
        period_seconds=JOIN_PERIOD_SECONDS,
    )
    deadline = state.deadline or Deadline()
    ends = zip(TIME_ATTRIBUTES, (deadline.to_retire, deadline.to_die), strict=True)
    channel = plan.ChannelPlan(
        path=handoff.channel_path,
        period_seconds=handoff.channel_period_seconds,
        attributes=_service_attributes(state) | {name: moment for name, moment in ends if moment is not None},
    )
    made = plan.KeeperPlan(
        workspace=session.workspace.root,
        output=state.output,
        pilot_id=state.pilot_id,
        started=state.started,
        master=master,
        join=join,
        channel=channel,
        services=service_plans(state),
        service_variables=_service_variables(session, state),
        periodics=_periodics(session, state, environment),
        benchmarks=plans_beside(session, state, _without_condor(environment)),
        time=_times(state, deadline),
        history=handoff.history,
        token=_token(session, state, environment),
        disk=_disk(session, state, handoff.plan.execute_directory),
        cvmfs=_cvmfs(session, state, environment),
        black_hole=_black_hole(state),
    )
    return made, replace(state, attributes=dict(handoff.plan.attributes), condor=taken, startd=handoff.told)


def _times(state: State, deadline: Deadline) -> plan.TimePlan:
    config = state.config
    kept = config.get("time.margin_seconds") + config.get("time.teardown_seconds") + deadline.spread_seconds
    bounded = config.get("time.until_token_expires")
    return plan.TimePlan(
        retire=deadline.to_retire,
        deadline=deadline.to_die,
        leaves=deadline.leaves,
        budget_seconds=config.get("time.teardown_seconds"),
        vacate_seconds=config.get("time.vacate_seconds"),
        margin_seconds=config.get("time.margin_seconds"),
        hold_seconds=hold_seconds(config.get("on_failure.hold_seconds"), state.environment),
        other_deadline=deadline.without_token(),
        token_lead_seconds=kept + deadline.behind_seconds() if bounded else None,
    )


def _inputs(session: Session, state: State) -> condor.HandoffInputs:
    decision = state.container
    if decision is None:
        message = "the container stage left no decision"
        raise PilotError(Failure(FailureKind.INTERNAL, "internal.no_decision", message))
    jobs = job_container(state)
    return condor.HandoffInputs(
        pilot_id=state.pilot_id,
        workspace=session.workspace.root,
        started=state.started,
        config=state.config.values,
        facts=state.facts,
        decision=decision,
        site_environment=state.environment,
        attributes=state.attributes,
        expressions=state.setup_expressions,
        benchmarks=state.benchmarks,
        job_environment=dict(jobs.environment),
        service_environment=_service_environment(state),
        sent_attributes=services.sent_attributes(kept(session, state)),
        job_binds=jobs.binds,
        container_options=jobs.options,
        gpu_options=jobs.gpu_options,
        fragments=tuple(
            PluginFragment(declared.plugin, declared.record) for declared in session.loaded.of("pilot_startd")
        ),
        parent=os.getppid(),
    )


def _token(session: Session, state: State, environment: dict[str, str]) -> plan.TokenPlan:
    """How the keeper watches over the token that was installed just now. Raises ``PilotError`` as ``read_token``."""
    source = configure.absolute(state.config.get("pool.token"))
    installed = os.path.join(session.workspace.tokens, TOKEN_FILE)
    _, facts = read_token(installed)
    clean = _without_condor(environment)
    asks = state.config.get("pool.renew_token") and state.config.get("upload.url") is not None
    renewal = [*session.around.interpreter, RENEW, session.workspace.root, installed] if asks else []
    return plan.TokenPlan(
        source=source,
        installed=installed,
        command=[*session.around.interpreter, "_token", source, installed],
        environment=clean,
        expires=facts.expires,
        period_seconds=state.config.get("pool.token_check_seconds"),
        warning_seconds=state.config.get("pool.token_warning_seconds"),
        renewal=renewal,
    )


def _disk(session: Session, state: State, execute_directory: str) -> plan.DiskPlan:
    return plan.DiskPlan(
        paths=list(dict.fromkeys((execute_directory, session.workspace.root))),
        floor_mib=state.config.get("startd.disk_floor_mib"),
        hard_floor_mib=state.config.get("startd.disk_hard_floor_mib"),
        period_seconds=state.config.get("startd.disk_period_seconds"),
    )


def _cvmfs(session: Session, state: State, environment: dict[str, str]) -> plan.CvmfsPlan:
    contained = state.container is not None and state.container.decision == "REQUIRED"
    clean = _without_condor(environment)
    return watch_plan(
        state.facts,
        state.config.values,
        state.cvmfs,
        interpreter=session.around.interpreter,
        environment=clean,
        contained=contained,
    )


def _black_hole(state: State) -> plan.BlackHolePlan:
    config = state.config
    return plan.BlackHolePlan(
        jobs=config.get("startd.black_hole_jobs"),
        clusters=config.get("startd.black_hole_clusters"),
        seconds=config.get("startd.black_hole_seconds"),
        share=config.get("startd.black_hole_share"),
        window_seconds=config.get("startd.black_hole_window_seconds"),
    )


def service_plans(state: State) -> list[services.ServicePlan]:
    """The services as they stand."""
    return [services.ServicePlan.from_json(item) for item in state.service_plans or ()]


def _wanted_variables(state: State) -> dict[str, dict[str, str]]:
    return {} if state.container is None else services.wanted_variables(state.container.surroundings)


def _service_environment(state: State) -> dict[str, str] | None:
    """What jobs get of the services that are ready now; None where no service will give them anything."""
    wanted = _wanted_variables(state)
    ports = {service.name: service.ports for service in state.services if service.status in READY}
    return told_variables(wanted, ports) if wanted else None


def _service_variables(session: Session, state: State) -> plan.ServiceVariablesPlan:
    directory = os.path.dirname(session.workspace.condor_config)
    return plan.ServiceVariablesPlan(directory=directory, variables=_wanted_variables(state))


def _service_attributes(state: State) -> dict[str, Json]:
    ready = [service for service in state.services if service.status in READY]
    return {name: value for service in ready for name, value in service.attributes.items()}


def _periodics(session: Session, state: State, environment: dict[str, str]) -> list[plan.PeriodicPlan]:
    """Periodic tasks as commands of their own, each of which answers with a mapping of attributes.

    Raises ``PilotError`` where one that would keep jobs away cannot be run; what only reports is left out and told.
    """
    clean = _without_condor(environment)
    plans: list[plan.PeriodicPlan] = []
    plans += [_own_plan(session, state, clean, record) for record in _own_tasks(state)]
    for declared in session.loaded.of("pilot_periodics"):
        record: Periodic = declared.record
        try:
            argv, own = _periodic_words(session, state, record, clean)
        except PilotError as error:
            if record.on_failure != "report":
                raise error.at(plugin=declared.plugin) from error
            session.events.write("periodic.failed", task=record.name, message=error.failure.message)
            continue
        plans.append(
            plan.PeriodicPlan(
                name=record.name,
                argv=argv,
                environment=own,
                period_seconds=record.period_seconds,
                timeout_seconds=record.timeout_seconds,
                on_failure=record.on_failure,
            )
        )
    return plans


def _without_condor(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("CONDOR_")}


def _own_plan(session: Session, state: State, environment: dict[str, str], record: Periodic) -> plan.PeriodicPlan:
    """One of the pilot's own tasks, which only some nodes need."""
    argv, own = _periodic_words(session, state, record, environment)
    return plan.PeriodicPlan(
        name=record.name,
        argv=argv,
        environment=own,
        period_seconds=record.period_seconds,
        timeout_seconds=record.timeout_seconds,
    )


def _own_tasks(state: State) -> list[Periodic]:
    """Where the site tells features of machine and job it may announce an end while the pilot runs; and GPUs that work
    now may be lost."""
    found = []
    if any(state.environment.get(name) for name in features.VARIABLES):
        run = f"{features.__name__}:{features.look_again.__name__}"
        seconds = state.config.get("time.announcements_period_seconds")
        found.append(Periodic(name="machine and job features", run=run, period_seconds=seconds))
    if known_value(state.facts, "gpu.count"):
        found.append(
            Periodic(
                name="GPUs",
                run="pilot_agent.plugins.gpu_watch:look_again",
                period_seconds=GPU_PERIOD_SECONDS,
                timeout_seconds=GPU_TIMEOUT_SECONDS,
            )
        )
    return found


def _periodic_words(
    session: Session, state: State, record: Periodic, environment: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    if is_program(record):
        return periodic_command(session, state, record, environment)
    directories = ":".join(session.around.directories)
    given = [record.run, record.name, session.workspace.state, directories]
    words = [*session.around.interpreter, "_child", "periodic", *given]
    return words, environment
