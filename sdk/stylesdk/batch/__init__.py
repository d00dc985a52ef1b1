"""Many files at once: a folder or bucket of images and videos into another, in one process or on Ray."""

from stylesdk.batch.plan import plan_batch
from stylesdk.batch.run import Summary, run_batch
from stylesdk.batch.worker import Job

__all__ = ["Job", "Summary", "plan_batch", "run_batch"]
