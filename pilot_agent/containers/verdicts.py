"""From candidates and trials to the verdicts of the report, the images taken, and the failure when there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.containers.images import Located, Refused, Resolver
from pilot_agent.containers.negotiation import Negotiation
from pilot_agent.containers.trials import Ladder, Trials
from pilot_agent.model import (
    ContainerDecision,
    Failure,
    FailureKind,
    ImageCandidate,
    ImageVerdict,
    Json,
    PilotError,
    Runtime,
)

MESSAGE_LIMIT = 1500


@dataclass(frozen=True, slots=True)
class Dictionary:
    """All candidates by platform, the default platform first, each either located or refused.

    ``wanted_default`` is the configured default platform, None when the first in the dictionary is meant.
    """

    platforms: Mapping[str, tuple[Located | Refused, ...]]
    order: tuple[str, ...]
    wanted_default: str | None

    @classmethod
    def arrange(
        cls,
        candidates: Sequence[ImageCandidate],
        configured: Mapping[str, Json],
        default: str | None,
        resolve: Resolver,
    ) -> Dictionary:
        """Group and resolve. Platforms of the configuration come first, in its order.

        Raises ``PilotError`` (image.not_in_dictionary) when the configured default is no platform of the dictionary.
        """
        order = tuple(dict.fromkeys([*configured, *(candidate.platform for candidate in candidates)]))
        if default is not None and default not in order:
            known = ", ".join(order) or "nothing"
            message = f"containers.default is {default!r}, and the image dictionary has {known}"
            hint = "the VO adds the platform to images, or corrects containers.default"
            raise PilotError(Failure(FailureKind.CONFIG, "image.not_in_dictionary", message, hint))
        grouped: dict[str, list[Located | Refused]] = {platform: [] for platform in order}
        for resolved in resolve(candidates):
            grouped[resolved.candidate.platform].append(resolved)
        platforms = {platform: tuple(listed) for platform, listed in grouped.items()}
        return cls(platforms, order, default)

    @property
    def empty(self) -> bool:
        """True when nobody offered any image."""
        return not any(self.platforms.values())

    @property
    def by_urgency(self) -> tuple[str, ...]:
        """Platforms in the order of their proofs: the default one first."""
        first = self.wanted_default or next(iter(self.order), None)
        return tuple(sorted(self.order, key=lambda platform: platform != first))

    @property
    def ladders(self) -> list[Ladder]:
        """What is to be proven, in the order of ``by_urgency``."""
        return [
            [item for item in self.platforms[platform] if isinstance(item, Located)] for platform in self.by_urgency
        ]

    def verdicts(self, trials: Trials | None) -> list[ImageVerdict]:
        """One verdict for each candidate, in the order of the dictionary."""
        listed: list[ImageVerdict] = []
        places = {platform: index for index, platform in enumerate(self.by_urgency)}
        for platform in self.order:
            length = sum(isinstance(item, Located) for item in self.platforms[platform])
            chosen = trials.chosen(places[platform], length) if trials is not None else None
            step = 0
            for item in self.platforms[platform]:
                if isinstance(item, Refused):
                    path, reason = item.candidate.path, f"{item.code}: {item.reason}"
                    listed.append(ImageVerdict(platform, path, taken=False, proven=False, reason=reason))
                    continue
                listed.append(_tried(item, trials, (places[platform], step), chosen))
                step += 1
        return listed


def _tried(item: Located, trials: Trials | None, key: tuple[int, int], chosen: int | None) -> ImageVerdict:
    platform, path, step = item.candidate.platform, item.path, key[1]
    proof = trials.proofs.get(key) if trials is not None else None
    if proof is not None and proof.diagnosis is not None:
        problem = proof.diagnosis
        reason = f"{problem.code}: {problem.message}; {problem.hint}"
        return ImageVerdict(platform, path, taken=False, proven=False, reason=reason, seconds=round(proof.seconds, 4))
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
    verdicts = known.verdicts(trials)
    taken = [verdict.platform for verdict in verdicts if verdict.taken]
    default = known.wanted_default or next(iter(taken), None)
    reason = outcome.reason
    if default is not None and default not in taken:
        reason += f"; the default platform {default} has no image here, so jobs must name another"
        default = None
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
    missing = [item for item in refused if item.code != "image.not_in_dictionary"]
    if missing:
        hint = "the VO corrects the path in images, or the site provides it"
        return Failure(missing[0].kind, missing[0].code, message, hint, retry=True)
    hint = "the VO adds a candidate for this node to images, or requires in the entry what its images need"
    return Failure(FailureKind.CONFIG, "image.not_in_dictionary", message, hint, retry=True)
