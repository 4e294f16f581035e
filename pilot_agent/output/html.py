"""The report as one page: everything in it, nothing fetched, no script; for the screen, for paper, for a ticket."""

from __future__ import annotations

import base64
import re

from pilot_agent.model import Json
from pilot_agent.output import html_sections as parts
from pilot_agent.output.markup import Markup, joined, tag
from pilot_agent.output.read import read
from pilot_agent.output.reading import Reading
from pilot_agent.output.style import STYLE
from pilot_agent.output.words import moment_text, one_line, raw_json, seconds_text, shortened

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may load or run for this page (Content Security Policy Level 3): its own style, nothing else."""
MOST_RAW_CHARACTERS = 4_000_000


def html_page(report: Json) -> str:
    """The page of a report (a whole HTML document). Every text of the report is escaped, and shortened where it is
    absurdly long; the report itself can be saved from the page unless it is larger than 4 MB."""
    found = read(report)
    page = tag(
        "html",
        _head(found),
        tag("body", _header(found), tag("main", *_content(found)), _footer(found, report)),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n"


def _head(found: Reading) -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{_host(found)}: {_in_a_word(found)} - pilot-agent check"),
        tag("style", Markup(STYLE)),
    )


def _host(found: Reading) -> str:
    return shortened(one_line(found.host), 100)


def _in_a_word(found: Reading) -> str:
    fit = sum(fit.fit for fit in found.fit)
    if len(found.fit) == 1:
        return "fit" if fit else "not fit"
    return f"fit for {fit} of {len(found.fit)} VOs"


def _header(found: Reading) -> Markup:
    words = [f"checked {moment_text(found.finished or found.started)}" if found.finished or found.started else ""]
    words.append(f"by user {one_line(found.user)}" if found.user else "")
    words.append(f"in {seconds_text(found.seconds)}" if found.spans else "")
    words.append(f"with pilot-agent {one_line(found.version)}" if found.version else "")
    when = shortened(" ".join(word for word in words if word), 400)
    return tag(
        "header", tag("p", "Node check", class_="above"), tag("h1", _host(found)), tag("p", when, class_="quiet")
    )


def _content(found: Reading) -> list[Markup]:
    sections = [
        ("node", "Node", parts.brief(found)),
        ("checks", "Checks", parts.checks(found)),
        ("cvmfs", "CVMFS", parts.cvmfs(found)),
        ("containers", "Containers", parts.containers(found)),
        ("timeline", "Timeline", parts.timeline(found)),
        ("facts", "Facts", parts.facts(found)),
        ("configuration", "Everything else", parts.others(found)),
    ]
    links = [tag("li", tag("a", name, href=f"#{anchor}")) for anchor, name, content in sections if content]
    contents = tag("nav", tag("ul", *links), aria_label="Parts of this page")
    return [parts.verdicts(found), contents, *(content for _, _, content in sections)]


def _footer(found: Reading, report: Json) -> Markup:
    """Who wrote the page, and the report itself as a file to save: data inside a link, which cannot run."""
    written = f"Written by pilot-agent {one_line(found.version)}" if found.version else "Written by pilot-agent"
    words = [shortened(f"{written}, check {one_line(found.pilot_id)}" if found.pilot_id else written, 200), ". "]
    raw = raw_json(report)
    if raw is None or len(raw) > MOST_RAW_CHARACTERS:
        return tag("footer", tag("p", *words, "The report itself is too large or too deep to be kept in this page."))
    data = base64.b64encode(raw.encode("ascii")).decode("ascii")
    name = re.sub(r"[^A-Za-z0-9-]+", "-", found.host)[:60].strip("-")
    link = tag(
        "a", "Save the report (JSON)", href=f"data:application/json;base64,{data}", download=f"report-{name}.json"
    )
    return tag("footer", tag("p", joined(words), tag("span", link, class_="download")))
