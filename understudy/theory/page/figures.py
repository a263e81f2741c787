"""Which figures belong to which claim, with their captions. The page and the tests read this."""

from __future__ import annotations

from understudy.theory.page import plots_offline, plots_reward
from understudy.theory.page.plots import Drawn

FIGURES: dict[str, Drawn] = {
    "realizable": Drawn(
        "Mean squared Hellinger distance between the maximum-likelihood student and a realizable expert, "
        "for sequences of H tokens. Every curve stays below the one bound, which does not know H.",
        "Four curves for H = 1, 2, 4, 8 fall together, below a grey bound.",
        plots_offline.realizable,
    ),
    "constant": Drawn(
        "Deterministic realizable expert. Blue: the exact regret of the best learner, offline or online, on "
        "the hardest family. It sits on the floor that holds for every online learner; the ceiling that is "
        "proved for offline learning is a constant factor above.",
        "Three parallel lines falling as 1/n; the exact regret lies on the online floor.",
        plots_offline.constant,
    ),
    "scores": Drawn(
        "A random realizable expert. Scores of the expert's own samples already give the online rate: OFF-G "
        "and ON-G are the same curve.",
        "Warm curves for samples alone fall slowly; dashed cool curves with scores fall much faster.",
        plots_offline.scores,
    ),
    "bottleneck": Drawn(
        "Left: three information models on one family at H = 1. The offline learner needs 1/eps times the "
        "rounds of the online one; scores of its samples help little. Right: as the expert moves out of "
        "reach (eps to 0), the offline curve stays at gap/2 for as long as one likes.",
        "Log-log plots of exact Bayes regret against n. Online falls near n = 50, offline only near n = 5,000.",
        plots_offline.bottleneck,
    ),
    "rate": Drawn(
        "With contexts as rare as 1/(eps(n+1)) the exact offline regret follows log|Pi| / n for all n. The "
        "dotted floor is the closed-form bound; the two are indistinguishable.",
        "Four parallel lines falling as 1/n, each on its dotted bound.",
        plots_offline.rate,
    ),
    "baseline": Drawn(
        "Three importance-weighting learners from the same online data. Without a baseline, most of the "
        "advantage is lost.",
        "The curve without a baseline falls far later than the two with one.",
        plots_offline.baseline,
    ),
    "trap": Drawn(
        "Example T. Left: both students are about equally far from the expert in style (pale); the bad one "
        "also pays for its reward (dark). Forward KL sees mostly style. Right: both losses along mixtures "
        "of the two students, scaled to their maxima, and the value.",
        "Bars of the two losses for the two students, and the losses along the mixture with their minimisers.",
        plots_offline.trap,
    ),
    "gaussian": Drawn(
        "The bottleneck with continuous actions: the further the expert (M standard deviations), the later "
        "its samples help. One score of an own action settles the online learner.",
        "Offline regret curves for M = 2 to 8 fall later and later; the online curve falls at n = 1.",
        plots_offline.gaussian,
    ),
    "figure3": Drawn(
        "The paper's Figure 3, recomputed. Black contours: the expert. Coloured contours: the reverse-KL "
        "projection on each class (dashed line). Both classes are far from the expert; only in class B does "
        "what cannot be matched decide the reward. Forward and reverse projections coincide here, so this "
        "picture does not separate online from offline.",
        "Two panels of Gaussian contours with the rewarded half-plane, and a panel with value and KL along each class.",
        plots_reward.figure3,
    ),
    "benign": Drawn(
        "Each dot is a random instance with unlimited data. Left: online imitation never loses more than "
        "the square root of Delta/2, whatever the divergence. Right: SFT has no such guarantee, and loses "
        "most where students differ in how much of the expert's style they can fake.",
        "Scatter of reward loss against Delta with a bounding curve; only the SFT panel has points above it.",
        plots_reward.benign,
    ),
    "asymmetry": Drawn(
        "The honest counter-case. If right answers are harder to phrase like the expert than wrong ones (D1 "
        "> D0), online imitation ends below the expert, while SFT (dashed) keeps its value.",
        "Falling curves of the online value against D1 minus D0, with flat SFT lines.",
        plots_reward.asymmetry,
    ),
    "gradient": Drawn(
        "At the projection of class B the expert's score still correlates with the reward, yet no step "
        "inside the class gains anything: what counts is the projected covariance.",
        "The raw covariance is positive where the projected one is zero.",
        plots_reward.gradient,
    ),
    "base-policy": Drawn(
        "Mean excess of reverse KL for six estimators on random instances (64 students, five playable "
        "actions, two that only the expert plays). Left: base like the students. Right: base = expert, "
        "which covers them badly.",
        "Log-log curves of six estimators; with the expert as base most do not improve.",
        plots_reward.base_policy,
    ),
    "horizon": Drawn(
        "Left: exact offline regret at a fixed number of expert samples. Blue, realizable: flat, or at most "
        "doubled. Warm, misspecified: large at H = 1 already, then growing, flat or shrinking. Right: with "
        "noisy content a longer answer carries more evidence, and regret falls with H.",
        "Six curves against horizon; realizable ones stay near 1e-4, misspecified ones near 0.5.",
        plots_reward.horizon,
    ),
    "falsifiers": Drawn(
        "Left: among benign random instances with unlimited data SFT often matches the expert too; that "
        "refutes nothing. It fails where students differ in faked style. Right: no offline learner is below "
        "the exact Bayes regret (bars: 4 standard errors).",
        "Dots for SFT and online per kind of instance, and learners' regrets above black floors.",
        plots_reward.falsifiers,
    ),
    "rows": Drawn(
        "Training curves of the production rows, batches sampled as in any run, on tabular softmax "
        "students. Left: the value does not depend on how rarely the expert plays the students' actions "
        "(the noise does: the sampled-token row has no baseline, and its weights are near log eps). Right: "
        "two rows, one expert, one class, two projections.",
        "Training curves that end on dotted lines at the exact values.",
        plots_reward.rows,
    ),
}
