"""The bank: every scenario trained once along all the branches that a decision can take, as small rows."""
