"""The theory lab: when online imitation helps, as exact statements that run (docs/theory.md).

bandit, realizable, trap, gaussian, horizon    families with exact Bayes regrets, one per information model
enumerate                                      the same regrets by going through every data set
decompose, improvement                         L = R + N, Delta, and the identities of section 3
online                                         estimators from a base policy's samples (Theorem 4)
generators, falsify, sceptic, instance         the search for a counter-example, also on a file of yours
production, tabular                            the bridge to the losses and rows that train
claims*, figures, plots*, page, cli            everything at once, as a table and a page
"""
