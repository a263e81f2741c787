"""The information models: what a learner is shown (docs/theory.md, section 0). Every regret names one of them."""

from __future__ import annotations

from enum import StrEnum

from understudy.errors import UserError


class Info(StrEnum):
    """What n rounds of data consist of; x ~ mu unless stated otherwise."""

    OFF_S = "OFF-S"
    OFF_G = "OFF-G"
    OFF_L = "OFF-L"
    ON_G = "ON-G"
    ON_G_STAR = "ON-G*"

    @property
    def sees(self) -> str:
        return _SEES[self]

    @property
    def online(self) -> bool:
        """Does the learner choose the actions that are scored?"""
        return self in (Info.ON_G, Info.ON_G_STAR)


IID = (Info.OFF_S, Info.OFF_G, Info.OFF_L, Info.ON_G)  # i.i.d. prompts

_SEES = {
    Info.OFF_S: "n i.i.d. prompts, each with one expert sample y ~ e(.|x): the data of SFT",
    Info.OFF_G: "OFF-S plus the score g = log e(y|x) of each expert sample",
    Info.OFF_L: "OFF-S plus the expert's full next-token distribution at every prefix of its own sample "
    "(logit distillation)",
    Info.ON_G: "n i.i.d. prompts; the learner draws y from its own base policy b(.|x) and is given g = log e(y|x)",
    Info.ON_G_STAR: "ON-G, but the learner chooses the prompts too",
}


def parse_info(text: str, field: str = "info") -> Info:
    """The information model of that name. UserError lists them otherwise."""
    try:
        return Info(text.upper())
    except ValueError:
        raise UserError(field, text, f"name one of {', '.join(info.value for info in Info)}") from None
