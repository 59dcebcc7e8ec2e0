"""The tasks, one in each file."""

from longrope_factors.evaluating.retrieval.documents import Task
from longrope_factors.evaluating.retrieval.tasks.key_value import KEY_VALUE
from longrope_factors.evaluating.retrieval.tasks.lines import LINES
from longrope_factors.evaluating.retrieval.tasks.many_shot import MANY_SHOT
from longrope_factors.evaluating.retrieval.tasks.multi_key import MULTI_KEY
from longrope_factors.evaluating.retrieval.tasks.multi_query import MULTI_QUERY
from longrope_factors.evaluating.retrieval.tasks.multi_value import MULTI_VALUE
from longrope_factors.evaluating.retrieval.tasks.single_key import SINGLE_KEY
from longrope_factors.evaluating.retrieval.tasks.variable_tracking import VARIABLE_TRACKING
from longrope_factors.factor_file.errors import UsageError

TASKS = {
    task.name: task
    for task in (
        KEY_VALUE,
        SINGLE_KEY,
        MULTI_KEY,
        MULTI_QUERY,
        MULTI_VALUE,
        VARIABLE_TRACKING,
        LINES,
        MANY_SHOT,
    )
}
# Without the tasks of one fact per document, in which each question costs reading a document.
DEFAULT = tuple(name for name, task in TASKS.items() if not task.alone)


def named(name: str) -> Task:
    """The task called `name`; raises UsageError if there is none."""
    if name not in TASKS:
        raise UsageError(f"--task {name} should be one of {', '.join(TASKS)}.")
    return TASKS[name]
