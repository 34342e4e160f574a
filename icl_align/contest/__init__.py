"""A contest: several samplers on one experiment, judged on examples that no search has seen.

```
runs/NAME-contest/
  contest.json         the experiment and the budget, as the contest was started
  contest.db           a study for each sampler and seed, and the ledger that all share
  entrants.json        what each one has handed over
  result.json          the comparison, as `--json` prints it
  contest.svg, .png    its figure
```
"""

from icl_align.contest.compete import compete, recorded
from icl_align.contest.outcome import Entrant, Handed, Outcome
from icl_align.contest.rules import DSPY, Rules, Standing, rules_of

__all__ = [
    "DSPY",
    "Entrant",
    "Handed",
    "Outcome",
    "Rules",
    "Standing",
    "compete",
    "recorded",
    "rules_of",
]
