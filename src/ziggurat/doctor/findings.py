"""What the checks say: a verdict, what was measured, and what to do."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from ziggurat.data.findings import plural

Verdict = Literal["error", "warning", "not run", "ok"]
ORDER: tuple[Verdict, ...] = ("error", "warning", "not run", "ok")


@dataclass(frozen=True)
class Finding:
    """What one check says.

    Attributes:
        check: Name of the check.
        verdict: An error spoils the run, a warning may; "not run" says nothing about the run.
        evidence: What was measured.
        fix: What to do, one sentence; empty where nothing is to be done.
    """

    check: str
    verdict: Verdict
    evidence: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What all checks say.

    Attributes:
        findings: Errors first, then warnings, what was not run, and what is well.
        seconds: What it took.
    """

    findings: tuple[Finding, ...]
    seconds: float

    @classmethod
    def of(cls, findings: list[Finding], seconds: float) -> "Diagnosis":
        """Put findings in order of their verdict, otherwise as they were found."""
        ordered = sorted(findings, key=lambda finding: ORDER.index(finding.verdict))
        return cls(tuple(ordered), seconds)

    def having(self, verdict: Verdict) -> tuple[Finding, ...]:
        """Return the findings of one verdict."""
        return tuple(finding for finding in self.findings if finding.verdict == verdict)

    def summary(self) -> str:
        """Count the findings, as "2 errors, 1 warning, 9 checks well"."""
        counts = {verdict: len(self.having(verdict)) for verdict in ORDER}
        words = [plural(counts[verdict], verdict) for verdict in ORDER[:2] if counts[verdict]]
        words.append(f"{plural(counts['ok'], 'check')} well")
        if counts["not run"]:
            words.append(f"{counts['not run']} not run")
        return ", ".join(words)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "summary": self.summary(),
            "seconds": round(self.seconds, 1),
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }
