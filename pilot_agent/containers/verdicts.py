"""From candidates and trials to the verdicts of the report, the images taken, and the failure when there are none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.containers.candidates import NOT_FOR_THIS_NODE, Located, Refused, pin_of, source_of
from pilot_agent.containers.cvmfs_paths import physical
from pilot_agent.containers.default_platform import DefaultPlatform
from pilot_agent.containers.images import Resolver, resolver
from pilot_agent.containers.negotiation import Negotiation
from pilot_agent.containers.proof import Proof
from pilot_agent.containers.refused_facts import facts_of_refused
from pilot_agent.containers.trials import Ladder, Trials
from pilot_agent.model import (
    ContainerDecision,
    Failure,
    FailureKind,
    ImageCandidate,
    ImageVerdict,
    Json,
    Runtime,
)
from pilot_agent.workspace import WORKSPACE_PREFIX

if TYPE_CHECKING:
    from pilot_agent.hookspecs import Context
    from pilot_agent.process import WakeUp

MESSAGE_LIMIT = 1500
LOOKED_AT = ("image.missing", "image.format", "image.restricted", "image.digest")
"""Refusals before the proof of an image whose files say more than the refusal. A dead mount is left alone."""


@dataclass(frozen=True, slots=True)
class Dictionary:
    """All candidates by platform, each either located or refused; ``order`` is that of the platforms, and
    ``cvmfs`` where the node has what is below /cvmfs."""

    platforms: Mapping[str, tuple[Located | Refused, ...]]
    order: tuple[str, ...]
    default: DefaultPlatform
    cvmfs: str = CVMFS

    @classmethod
    def of(cls, context: Context, candidates: Sequence[ImageCandidate], wake: WakeUp | None = None) -> Dictionary:
        """What the node of ``context`` can take of ``candidates``, as its configuration restricts them.

        Raises as ``arrange`` does, and ``Interrupted``.
        """
        # The workspace has the pilot's id in its name.
        pilot_id = os.path.basename(context.workspace or "").removeprefix(WORKSPACE_PREFIX)
        default = context.config["containers"]["default"]
        known = cls.arrange(candidates, context.config["images"], default, resolver(context, wake), pilot_id)
        return replace(known, cvmfs=str(context.value("cvmfs.mount_point", CVMFS)))

    @classmethod
    def arrange(
        cls,
        candidates: Sequence[ImageCandidate],
        configured: Mapping[str, Json],
        default: str | Mapping[str, float] | None,
        resolve: Resolver,
        pilot_id: str = "",
    ) -> Dictionary:
        """Group and resolve. Platforms of the configuration come first, in its order; ``default`` is
        ``containers.default``, from which ``pilot_id`` decides a draw.

        Raises ``PilotError`` (image.not_in_dictionary) when the configured default is no platform of the dictionary.
        """
        order = tuple(dict.fromkeys([*configured, *(candidate.platform for candidate in candidates)]))
        chosen = DefaultPlatform.of(default, order, pilot_id)
        grouped: dict[str, list[Located | Refused]] = {platform: [] for platform in order}
        for resolved in resolve(candidates):
            grouped[resolved.candidate.platform].append(resolved)
        platforms = {platform: tuple(listed) for platform, listed in grouped.items()}
        return cls(platforms, order, chosen)

    @property
    def empty(self) -> bool:
        """True when nobody offered any image."""
        return not any(self.platforms.values())

    @property
    def by_urgency(self) -> tuple[str, ...]:
        """Platforms in the order of their proofs: those first that may become the default one."""
        return tuple(dict.fromkeys([*self.default.order, *self.order]))

    @property
    def ladders(self) -> list[Ladder]:
        """What is to be proven, in the order of ``by_urgency``: of each platform the images on the node that come
        before the first remote one, which is taken when they all fail."""
        return [self._ladder(platform) for platform in self.by_urgency]

    def _located(self, platform: str) -> list[Located]:
        return [item for item in self.platforms[platform] if isinstance(item, Located)]

    def _ladder(self, platform: str) -> list[Located]:
        return list(takewhile(lambda item: item.form != "remote", self._located(platform)))

    def verdicts(self, trials: Trials | None, *, runtime_works: bool = False) -> list[ImageVerdict]:
        """One verdict for each candidate, in the order of the dictionary.

        ``trials`` is None when there was nothing to prove, or nothing to prove it with; remote images are taken only
        when ``runtime_works``.
        """
        listed: list[ImageVerdict] = []
        places = {platform: index for index, platform in enumerate(self.by_urgency)}
        for platform in self.order:
            ladder = self._ladder(platform)
            chosen = trials.chosen(places[platform], len(ladder)) if trials is not None else None
            if chosen is None and runtime_works and (trials is not None or not ladder):
                chosen = len(ladder)  # the first remote one, if there is any
            step = 0
            for item in self.platforms[platform]:
                if isinstance(item, Refused):
                    listed.append(_refused(item))
                    continue
                verdict = _tried(item, trials, (places[platform], step), chosen)
                listed.append(replace(verdict, source=item.source or "", digest=pin_of(item.candidate)))
                step += 1
        unseen = {path for path, proof in self._failed(trials) if not proof.facts}
        return _with_facts(listed, {path: physical(path, self.cvmfs) for path in unseen | self._refused_before()})

    def _refused_before(self) -> set[str]:
        """Those of the node that were refused before any proof, and that can be looked at without harm."""
        return {
            item.candidate.path
            for listed in self.platforms.values()
            for item in listed
            if isinstance(item, Refused) and item.code in LOOKED_AT and item.candidate.path.startswith("/")
        }

    def _failed(self, trials: Trials | None) -> list[tuple[str, Proof]]:
        """Those that were tried and that did not run, for a reason of their own."""
        proofs = trials.proofs if trials is not None else {}
        ladders = self.ladders
        return [
            (ladders[ladder][step].path, proof)
            for (ladder, step), proof in proofs.items()
            if proof.diagnosis is not None and proof.diagnosis.scope == "image"
        ]


def _with_facts(verdicts: list[ImageVerdict], places: Mapping[str, str]) -> list[ImageVerdict]:
    """The verdicts with what the files of refused images say: their programs could say nothing, and who judged them
    before saw only what the judgement needed."""
    if not places:
        return verdicts
    read = facts_of_refused(sorted(places.values()))
    found = {path: read[place] for path, place in places.items() if place in read}
    return [
        replace(verdict, facts={**found[verdict.path], **verdict.facts}) if verdict.path in found else verdict
        for verdict in verdicts
    ]


def _refused(item: Refused) -> ImageVerdict:
    path, reason = item.candidate.path, f"{item.code}: {item.reason}"
    source, digest = source_of(path) or "", pin_of(item.candidate)
    platform, facts = item.candidate.platform, dict(item.facts)
    return ImageVerdict(platform, path, False, False, reason, facts=facts, source=source, digest=digest)


def _tried(item: Located, trials: Trials | None, key: tuple[int, int], chosen: int | None) -> ImageVerdict:
    platform, path, step = item.candidate.platform, item.path, key[1]
    if item.form == "remote":
        taken = step == chosen
        told = "fetched and proven at its first use, not at the start"
        if not taken:
            told = "an earlier candidate was taken" if chosen is not None else "not tried: no runtime works"
        return ImageVerdict(platform, path, taken, proven=False, reason=f"image.unproven: {told}")
    proof = trials.proofs.get(key) if trials is not None else None
    if proof is not None and proof.diagnosis is not None:
        problem = proof.diagnosis
        reason = f"{problem.code}: {problem.message}; {problem.hint}"
        return ImageVerdict(platform, path, False, False, reason, round(proof.seconds, 4), proof.facts)
    if proof is not None:
        reason = "a program ran in it with the options of jobs"
        if path != item.candidate.path:
            reason += f"; {item.candidate.path} leads there"
        return ImageVerdict(platform, path, True, True, reason, round(proof.seconds, 4), proof.facts)
    if trials is not None and step == chosen:
        reason = "not tried, the time for proofs was used up; HTCondor tests it before each job"
        return ImageVerdict(platform, path, taken=True, proven=False, reason=reason)
    if chosen is not None:
        return ImageVerdict(platform, path, taken=False, proven=False, reason="an earlier candidate was taken")
    return ImageVerdict(platform, path, taken=False, proven=False, reason="not tried: no runtime works")


def conclude(
    outcome: Negotiation, runtime: Runtime, known: Dictionary, trials: Trials | None
) -> tuple[ContainerDecision, Failure | None]:
    """The decision with a runtime that works; the failure when the dictionary has images and none can be used."""
    verdicts = known.verdicts(trials, runtime_works=True)
    taken = [verdict.platform for verdict in verdicts if verdict.taken]
    default, said = known.default.settle(taken)
    reason = f"{outcome.reason}; {said}" if said else outcome.reason
    decision = ContainerDecision(outcome.decision, outcome.cell, reason, runtime, default, tuple(verdicts))
    if known.empty or taken:
        return decision, None
    return decision, _no_image(known, trials, verdicts)


def _no_image(known: Dictionary, trials: Trials | None, verdicts: Sequence[ImageVerdict]) -> Failure:
    """Why no image of the dictionary can be used; what the default platform's best candidate met decides the kind."""
    message = "no image of the dictionary can be used: " + "; ".join(
        f"{verdict.platform} {verdict.path}: {verdict.reason}" for verdict in verdicts
    )
    message = message[:MESSAGE_LIMIT]
    problems = [proof.diagnosis for _, proof in sorted((trials.proofs if trials else {}).items()) if proof.diagnosis]
    if problems:
        return Failure(problems[0].kind, problems[0].code, message, problems[0].hint, retry=True)
    refused = [item for platform in known.by_urgency for item in known.platforms[platform] if isinstance(item, Refused)]
    missing = [item for item in refused if item.code != NOT_FOR_THIS_NODE]
    if missing:
        return Failure(missing[0].kind, missing[0].code, message, missing[0].hint, retry=True)
    hint = "the VO adds a candidate for this node to images, or requires in the entry what its images need"
    return Failure(FailureKind.CONFIG, NOT_FOR_THIS_NODE, message, hint, retry=True)
