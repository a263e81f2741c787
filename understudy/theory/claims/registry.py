"""The registry: every claim of the theory lab, in reading order. `understudy theory` runs them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches

from understudy.errors import UserError
from understudy.theory.claims import examples, finite, offline, realizable, reward, rows
from understudy.theory.claims.claim import Claim, Options, Result

TESTS = "tests/unit/theory/test_"


def _claim(
    name: str,
    title: str,
    section: str,
    run: Callable[[Options], Result],
    statement: str,
    not_said: str,
    refuted_by: str,
    test: str,
    options: str = "",
) -> Claim:
    return Claim(name, title, section, statement, not_said, refuted_by, test, run, frozenset(options.split()))


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "realizable",
        "Offline imitation of a realizable expert does not know the horizon",
        "Theorem 1a",
        realizable.realizable,
        "If the expert is one of K students, maximum likelihood on n expert samples is within squared "
        "Hellinger distance 2 (log K + 1) / n of it on average. The horizon appears nowhere.",
        "An upper bound for finite classes: real classes are infinite, and K stands for their complexity.",
        "A finite class and a realizable expert on which the mean D2 of the MLE exceeds the bound.",
        f"{TESTS}realizable.py",
        "n H",
    ),
    _claim(
        "scores",
        "With a random realizable expert, scores help; interaction does not",
        "Theorem 1b, Family R-stoch",
        realizable.scores,
        "Scores of the expert's own samples (OFF-G) give the fast rate log(K/delta) / n, and in Family "
        "R-stoch OFF-G equals ON-G exactly, while samples alone (OFF-S) are worse by more than a constant.",
        "It does not say that online imitation never helps with a realizable expert: ON-G beats OFF-S here. "
        "The gain is the score.",
        "A value of n at which the exact OFF-G and ON-G regrets of R-stoch differ.",
        f"{TESTS}realizable.py",
        "l n",
    ),
    _claim(
        "constant",
        "With a deterministic realizable expert, online is better by a constant at most",
        "Theorem 1c",
        realizable.constant,
        "Even a learner that is shown the expert's whole distribution at n i.i.d. prompts has regret at "
        "least (l - 1) / (2e(n+1)); maximum likelihood is within a factor 2e ln 2 = 3.77 of that in the "
        "limit.",
        "Prompts are i.i.d.: a learner that chooses its prompts is not covered. The factor compares worst cases.",
        "Any learner, with i.i.d. prompts, whose family-average regret is below (zeta/2)(l-1)(1-zeta)^n.",
        f"{TESTS}realizable.py",
        "l n",
    ),
    _claim(
        "bottleneck",
        "The offline bottleneck, already at H = 1",
        "Theorem 2, corollaries C1 and C2",
        offline.bottleneck,
        "In Family F the expert plays a student's action with probability eps only. No offline learner can "
        "do better than a majority of the few informative samples: it needs 1/eps times the samples of an "
        "online one, which asks the expert to score its own actions.",
        "An average over the family, not a statement about every instance; for a fixed instance enough "
        "samples always suffice (C2 chooses eps after n). If students could play '+', there would be no "
        "bottleneck (C7).",
        "An OFF-S learner into the class whose regret averaged over theta is below R_off(n).",
        f"{TESTS}bandit.py",
        "l eps kappa n",
    ),
    _claim(
        "truncated",
        "Truncated decoding makes the bottleneck permanent",
        "Corollary C3",
        offline.truncated,
        "If the expert's samples are cut to its own style (top-p, greedy), they say nothing about theta: "
        "the offline regret stays at gap/2 for every n, on one instance. Online scores are untouched.",
        "A different observation model from y ~ e. It says nothing about truncation that keeps playable actions.",
        "An offline learner that does better than gap/2 on average from truncated samples.",
        f"{TESTS}bandit.py",
        "l eps kappa n",
    ),
    _claim(
        "rate",
        "The bottleneck in the shape log|Pi| / n",
        "Corollary C4",
        offline.rate,
        "With rare contexts of mass zeta = 1/(eps(n+1)), the exact offline regret is at least (l-1)/(2e "
        "eps(n+1)): the realizable bound of Theorem 1c with n replaced by eps n.",
        "Not 'the paper's Theorem 1': the scraps fit both readings (1c and this). The family is chosen for its n.",
        "A zeta with a larger exact regret, or an offline learner below it.",
        f"{TESTS}bandit.py",
        "l eps n",
    ),
    _claim(
        "two-point",
        "Any two worlds that look alike to an offline learner",
        "Corollary C5 (Le Cam)",
        offline.two_point,
        "For any two (expert, reward) pairs, offline regret in one of them is at least (s/2)(1 - sqrt(1 - "
        "(1 - D2/2)^(2n))), whatever the learner into the class.",
        "Two worlds only: for many contexts Theorem 2 is sharper. The bound is not tight.",
        "Two worlds where the exact Bayes regret is below the bound.",
        f"{TESTS}bandit.py",
        "eps kappa n",
    ),
    _claim(
        "logits",
        "Full distributions along expert samples: enough at H = 1, not behind a style token",
        "Corollary C6",
        offline.logits,
        "At H = 1 logit distillation (OFF-L) shows theta at every visited prompt, like ON-G. With one style "
        "token before the content it shows the content only after 'play', and is no better than samples.",
        "Distributions at the student's own prefixes would be online information, not OFF-L.",
        "An OFF-L learner below the M-mode regret.",
        f"{TESTS}horizon.py",
        "l eps kappa n",
    ),
    _claim(
        "coverage",
        "What counts is whether the sampler covers the students",
        "Theorem 2 (iii) and section 4",
        offline.coverage,
        "OFF-G is ON-G whose base policy is the expert. Its coverage constant E_pi[pi/e] is at least "
        "exp(KL(pi || e)): reverse KL in nats is the logarithm of the number of expert samples an "
        "importance-weighting learner needs.",
        "The exponential is about importance weighting; a structured learner may need fewer.",
        "A pair pi, e with E_pi[pi/e] < exp(KL(pi || e)).",
        f"{TESTS}bandit.py",
        "l eps kappa n",
    ),
    _claim(
        "baseline",
        "Online learners need a baseline",
        "Section 2, online learners",
        offline.baseline,
        "Importance weighting with the midrange of scores as baseline attains the online optimum; with the "
        "group mean it needs both actions drawn; with no baseline it confuses 'drawn often' with 'scored "
        "low'.",
        "Exact for a uniform base on two actions; the ordering elsewhere is an observation.",
        "Parameters at which raw importance weighting beats the midrange baseline in Family F.",
        f"{TESTS}bandit.py",
        "l eps kappa n",
    ),
    _claim(
        "trap",
        "A mass-covering trap: SFT loses .68 with unlimited data",
        "Example T",
        examples.trap,
        "Between a good student that cannot fake the expert's style and a bad one that fakes it a little, "
        "forward KL takes the bad one and reverse KL the good one, and Delta guarantees the latter .956.",
        "Specific to SFT: an offline learner that reads the reward bit's frequency would do well. It is not "
        "information-theoretic.",
        "Forward KL smaller for student 1 at the stated parameters.",
        f"{TESTS}trap.py",
    ),
    _claim(
        "gaussian",
        "The bottleneck with continuous actions",
        "Section 2, Gaussian bottleneck",
        examples.gaussian,
        "An expert M standard deviations away reveals theta with probability Phi(-M/2) a sample; the "
        "offline regret stays near 1/2 (2 Phi(2) - 1) for n far below exp(M^2/8), one score of an own "
        "action decides online.",
        "Two students only; continuity adds nothing beyond the informative-sample probability.",
        "An OFF-S learner below the exact Bayes regret.",
        f"{TESTS}gaussian.py",
    ),
    _claim(
        "figure3",
        "Figure 3: benign and harmful misspecification",
        "Section 3, Figure 3",
        examples.figure3,
        "Both Gaussian classes are far from the expert. In class A what cannot be matched is irrelevant to "
        "the reward, and the projection has V = .977; in class B it is tied to it, and V = .5.",
        "It does not separate online from offline: with equal covariances both projections coincide.",
        "Quadrature values of L, V, R, N that differ from the closed forms.",
        f"{TESTS}gaussian.py",
    ),
    _claim(
        "benign",
        "What online imitation can lose is Delta, not the divergence",
        "Theorems 3A and 3A'",
        reward.benign,
        "Delta = inf L - inf N. If the learner is within t of the smallest reverse KL, kl(V || V_e) <= "
        "Delta + t, however large that KL is. Family F has Delta = -log(1 - kappa) while the divergence "
        "goes to infinity.",
        "Delta is exact in the lab and not certifiable for a language model: inf N cannot be bounded from samples.",
        "One finite instance with kl(V_online || V_e) > Delta + 1e-9.",
        "tests/identities/test_theory_decompose.py",
        "eps kappa",
    ),
    _claim(
        "asymmetry",
        "Online can be the harmful one",
        "Theorems 3B, 3C",
        reward.asymmetry,
        "Cov(r, A) = v(1-v)[logit v_e - logit v - (D1 - D0)]. In a tilt-closed class online imitation ends "
        "at sigma(logit v_e - (D1 - D0)), SFT at v_e: if correct answers are harder to phrase like the "
        "expert, online loses.",
        "Tilt-closed classes are an idealisation: restricted classes need the tangent projection (3E).",
        "An instance where the two sides of 3B differ, or a tilt-closed class that ends elsewhere.",
        "tests/identities/test_theory_decompose.py",
    ),
    _claim(
        "alignment",
        "Scores that are reward plus noise",
        "Theorem 3D",
        reward.alignment,
        "Write log e = r/beta + log nu - a + xi. Value differences are beta times (entropy + imitation + "
        "misalignment); the offset a, hence the size of the divergence, cancels.",
        "An identity for every beta and nu: useful only where xi is small.",
        "Two policies and a decomposition for which the two sides differ.",
        "tests/identities/test_theory_improvement.py",
        "eps kappa",
    ),
    _claim(
        "gradient",
        "The first step toward the expert",
        "Theorem 3E",
        reward.gradient,
        "Along pi^(1-t) e^t the reward moves by the covariance of reward and expert advantage; for a "
        "restricted class, by the covariance of their projections on the tangent space.",
        "A positive raw covariance does not certify improvement: class B of Figure 3 has 0.80 raw and 0 projected.",
        "A finite difference that disagrees.",
        "tests/identities/test_theory_improvement.py",
    ),
    _claim(
        "best-of-two",
        "What the expert's score is worth as a judge",
        "Identity 3F",
        reward.best_of_two,
        "Keeping the better-scored of two samples gains exactly E[v(1-v)] (2 AUC - 1), with AUC over "
        "same-prompt pairs.",
        "It is about selection, not about training.",
        "An instance where going through all pairs gives another gain.",
        "tests/identities/test_theory_improvement.py",
    ),
    _claim(
        "base-policy",
        "Finite-sample guarantees for sampling from a base policy",
        "Theorem 4",
        finite.base_policy,
        "Importance weighting, chi-square pessimism and implicit exploration find a student whose reverse "
        "KL is within a stated distance of the best, depending on coverage and the within-prompt range "
        "only.",
        "The constants are loose. snips and clipped carry no certificate here. B and hi(x) are assumed known.",
        "Violations of a bound in more than delta of the data sets.",
        f"{TESTS}online.py",
        "n",
    ),
    _claim(
        "horizon",
        "Horizon is not what decides",
        "Section 5",
        finite.horizon,
        "The realizable regret is within a factor 2 of its H = 1 value for every H. The misspecified gap is "
        "there in full at H = 1 and may grow, stay or shrink with H.",
        "Six families with the number of samples fixed; not a theorem about all sequence problems.",
        "A horizon at which an R-family exceeds twice its H = 1 regret.",
        f"{TESTS}horizon.py",
        "l eps n H",
    ),
    _claim(
        "falsifiers",
        "The search for a counter-example",
        "Section 6, F1 to F4",
        finite.falsifiers,
        "35,000 random instances, a hill climb and six offline learners: no guarantee broken. The climb "
        "reaches 99.9% of the proved loss, so the bound is essentially tight.",
        "In most generic benign instances SFT with unlimited data matches too. That refutes nothing, and "
        "the lab says so.",
        "A single F1, F2 or F3 event, or F4 frequencies above delta.",
        f"{TESTS}falsify.py",
    ),
    _claim(
        "rows",
        "The program that trains is the one the theory is about",
        "Sections 2 and 3, through losses.py, label.py, rollout.py and train.py",
        rows.rows,
        "The real rows opd and opd_full drive a softmax student on Family F to P(theta) = 1 - kappa for "
        "every eps; on Example T the real row sft ends at the forward-KL projection and opd at the reverse "
        "one; on 2,048 expert samples sft shows Theorem 2's regret.",
        "Tables instead of networks: optimisation error of a transformer is not covered.",
        "A row that ends elsewhere than the exact projection.",
        "tests/identities/test_theory_rows.py",
        "eps kappa",
    ),
)

BY_NAME = {claim.name: claim for claim in CLAIMS}


def find(name: str) -> Claim:
    """The claim of that name; a UserError that suggests the nearest one otherwise."""
    if name in BY_NAME:
        return BY_NAME[name]
    close = get_close_matches(name, BY_NAME, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError("claim", name, f"{hint}one of {', '.join(BY_NAME)}; or value, falsify, list")


def run(names: list[str], options: Options) -> Iterator[tuple[Claim, Result]]:
    """Run the named claims (all, if none is named), one by one."""
    for claim in [find(name) for name in names] or CLAIMS:
        yield claim, claim.checked(options)
