"""The two Gaussian examples, closed forms and quadrature: Figure 3 and the bottleneck (docs/theory.md, sections 3, 2).

Figure 3 does not separate online from offline: all covariances are equal, so forward and reverse projections coincide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from understudy.errors import UserError
from understudy.theory.families.bandit import check_rounds
from understudy.theory.information import Info
from understudy.theory.scalars import Array, bernoulli_kl, binomial_mean, gaussian_cdf, gaussian_density

EXPERT = (-2.0, 2.0)  # mean of the expert of Figure 3; r = 1[y >= 0]


@dataclass(frozen=True)
class Fig3:
    """Students N(mean(t), I) on R^2: class 'A' has mean (0, t), class 'B' (t, t). Expert N((-2, 2), I)."""

    cls: str

    def __post_init__(self) -> None:
        if self.cls not in ("A", "B"):
            raise UserError("cls", self.cls, "A (mean_x = 0) or B (mean_y = mean_x)")

    def mean(self, t: float) -> tuple[float, float]:
        return (0.0, t) if self.cls == "A" else (t, t)

    def reverse_kl(self, t: float) -> float:
        """L(t) = KL(student || expert), half the squared distance of the means."""
        x, y = self.mean(t)
        return ((x - EXPERT[0]) ** 2 + (y - EXPERT[1]) ** 2) / 2

    def value(self, t: float) -> float:
        return float(gaussian_cdf(t))

    def relevant(self, t: float, phi: str = "r") -> float:
        """R: the part of L that phi = y, or phi = r, can see."""
        if phi == "y":
            return (t - EXPERT[1]) ** 2 / 2
        return float(bernoulli_kl(gaussian_cdf(t), gaussian_cdf(EXPERT[1])))

    def nuisance(self, t: float, phi: str = "r") -> float:
        return self.reverse_kl(t) - self.relevant(t, phi)

    @property
    def minimiser(self) -> float:
        """The reverse-KL (and forward-KL) projection: t = 2 in class A, 0 in class B."""
        return EXPERT[1] if self.cls == "A" else (EXPERT[0] + EXPERT[1]) / 2

    def least_nuisance(self, phi: str = "r") -> tuple[float, float]:
        """(inf N, the t that attains it)."""
        best = minimize_scalar(lambda t: self.nuisance(t, phi), bracket=(-1.5, 1.0), method="brent", tol=1e-12)
        return float(best.fun), float(best.x)

    def delta(self, phi: str = "r") -> float:
        """Delta_phi = inf L - inf N."""
        return self.reverse_kl(self.minimiser) - self.least_nuisance(phi)[0]

    def natural_step(self, t: float) -> float:
        """dV per unit of natural-gradient descent on L (Theorem 3E b): (2 - t) phi(t), or -t phi(t)."""
        slope = (EXPERT[1] - t) if self.cls == "A" else -t
        return float(slope * gaussian_density(t))

    def raw_covariance(self, t: float) -> float:
        """Cov_pi(r, log e - log pi) without projecting on the class: the y-part of A alone moves with r.

        In class B at t = 0 it is 2 phi(0) > 0 although no step in the class helps.
        """
        return float((EXPERT[1] - t) * gaussian_density(t))

    def quadrature(self, t: float) -> dict[str, float]:
        """L, V, R and N (phi = r) by numerical integration, nothing shared with the closed forms."""
        x, y = self.mean(t)
        kl_x = _kl_line(x, EXPERT[0], -np.inf, np.inf)
        value = quad(lambda u: norm.pdf(u, y), 0, np.inf)[0]
        value_expert = quad(lambda u: norm.pdf(u, EXPERT[1]), 0, np.inf)[0]
        kl_above, kl_below = _kl_line(y, EXPERT[1], 0, np.inf), _kl_line(y, EXPERT[1], -np.inf, 0)
        relevant = value * math.log(value / value_expert)
        relevant += (1 - value) * math.log((1 - value) / (1 - value_expert))
        # p log(p/q) integrated over one side of the reward, minus the mass term, is v_z KL(pi(.|z) || e(.|z))
        nuisance = kl_x + kl_above - value * math.log(value / value_expert)
        nuisance += kl_below - (1 - value) * math.log((1 - value) / (1 - value_expert))
        return {"L": kl_x + kl_above + kl_below, "V": value, "R": relevant, "N": nuisance}


def _kl_line(student: float, expert: float, low: float, high: float) -> float:
    """The integral of p log(p / q) over [low, high] for unit normals."""

    def integrand(u: float) -> float:
        return float(norm.pdf(u, student) * (norm.logpdf(u, student) - norm.logpdf(u, expert)))

    return float(quad(integrand, low, high, epsabs=1e-12)[0])


@dataclass(frozen=True)
class Bottleneck:
    """Expert: x ~ N(-M, 1), y | x ~ N(2 s(x), 1), s = +1 if x < -M/2 else theta in {-1, 1}; r = 1[s(x) y >= 0].

    Students N((0, m), I), m in {-2, 2}. eps = Phi(-M/2) is the probability that an expert sample depends on theta, and
    the student mass left of -M/2. V_e = Phi(2). theta is uniform.
    """

    M: float = 4.0

    def __post_init__(self) -> None:
        if not self.M > 0:
            raise UserError("M", self.M, "a positive distance")

    @property
    def eps(self) -> float:
        return float(gaussian_cdf(-self.M / 2))

    def value(self, m: float, theta: int) -> float:
        """V(m; theta) = eps Phi(m) + (1 - eps) Phi(theta m)."""
        return float(self.eps * gaussian_cdf(m) + (1 - self.eps) * gaussian_cdf(theta * m))

    def gaps(self) -> tuple[float, float]:
        """What the wrong m costs when theta = -1, and when theta = +1."""
        return self.value(-2, -1) - self.value(2, -1), self.value(2, 1) - self.value(-2, 1)

    def lower_bound(self, n: int) -> float:
        """(1/2)(1 - eps)^n (1 - 2 eps)(2 Phi(2) - 1), for all OFF-S learners. Also the exact OFF-G regret."""
        return 0.5 * (1 - self.eps) ** n * min(self.gaps())

    def regret(self, info: Info, n: int) -> float:
        """Exact Bayes regret. OFF-S: the sum of k informative y's is N(2 theta k, k), so only it matters."""
        check_rounds(n)
        if info is Info.OFF_S:
            return binomial_mean(n, self.eps, self._regret_given)
        if info is Info.OFF_G:
            return self.lower_bound(n)
        if info in (Info.ON_G, Info.ON_G_STAR):  # one own draw right of -M/2, probability 1 - eps, decides
            return 0.5 * self.eps**n * min(self.gaps())
        raise UserError("info", info, "a real-valued action has no token distribution: OFF-S, OFF-G or ON-G")

    def _regret_given(self, k: Array) -> Array:
        """E min over m of posterior cost, given k informative samples: threshold the sum S at log(g- / g+) / 4."""
        minus, plus = self.gaps()
        k = np.asarray(k, float)
        root = np.sqrt(np.maximum(k, 1e-300))
        threshold = math.log(minus / plus) / 4
        miss_plus = gaussian_cdf((threshold - 2 * k) / root)  # theta = +1 but S below the threshold
        miss_minus = gaussian_cdf((-threshold - 2 * k) / root)
        return np.where(k == 0, 0.5 * min(minus, plus), 0.5 * (plus * miss_plus + minus * miss_minus))

    def simulate(self, n: int, runs: int, rng: np.random.Generator) -> tuple[float, float]:
        """(mean, standard error) of the Bayes learner's OFF-S regret, from raw (x, y) samples."""
        minus, plus = self.gaps()
        theta = rng.choice([-1, 1], runs)
        x = rng.normal(-self.M, 1, (runs, n))
        sign = np.where(x < -self.M / 2, 1, theta[:, None])
        y = rng.normal(2 * sign, 1)
        total = np.where(x >= -self.M / 2, y, 0.0).sum(1)
        play_plus = 4 * total > math.log(minus / plus)
        wrong = play_plus != (theta > 0)
        regret = np.where(wrong, np.where(theta > 0, plus, minus), 0.0)
        return float(regret.mean()), float(regret.std() / math.sqrt(runs))
