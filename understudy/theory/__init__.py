"""When online imitation helps, as exact statements that run (docs/theory.md).

families/    families of problems with exact Bayes regrets, one per information model
exact/       the same regrets by going through every data set; the identities of section 3; Theorem 4's estimators
falsify/     the search for a counter-example, also on an instance file of a reader
claims/      every claim: its texts (claims.toml) and the function that computes it
page/        the page with figures
values       closed forms at any parameters
production, tabular    the bridge to the losses and rows that train
"""
