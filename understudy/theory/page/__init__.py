"""The page of `understudy theory`: claims, checks, figures."""
