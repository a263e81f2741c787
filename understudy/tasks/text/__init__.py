"""Tasks from data sets: public ones by name (catalog.py), and any JSON lines or parquet."""

from understudy.tasks.text.catalog import DATASETS
from understudy.tasks.text.config import TextConfig
from understudy.tasks.text.task import TextTask

__all__ = ["DATASETS", "TextConfig", "TextTask"]
