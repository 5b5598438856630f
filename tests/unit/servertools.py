"""What the tests of the embedded server share: one server, its callers, and a task in any status."""

import pytest

from agentpipe.errors import ApiError
from agentpipe.server.endpoints import call
from agentpipe.server.store import Store


class Server:
    """A store and one user of it."""

    def __init__(self, path):
        self.path = str(path)
        self.store = Store(self.path)
        self.queue = self("queues.get_default")["id"]

    def __call__(self, endpoint, body=None, **fields):
        return call(self.store, {"user": "ann", "worker": "box:0"}, endpoint, fields or body)

    def task(self, name="train", **fields):
        return self("tasks.create", {"name": name, "type": "training", **fields})["id"]

    def enqueued(self, name="train", **fields):
        task = self.task(name, **fields)
        self("tasks.enqueue", task=task)
        return task

    def pulled(self, token, name="train"):
        """A task that carries this claim, still queued."""
        task = self.enqueued(name)
        assert self("queues.get_next_task", queue=self.queue, claim=token)["entry"]["task"] == task
        return task

    def get(self, task):
        return self("tasks.get_by_id", task=task)["task"]

    def put(self, task, status):
        """Any status, the way an administrator would."""
        self("tasks.edit", task=task, status=status, force=True)

    def entries(self, queue=None):
        found = self("queues.get_by_id", queue=queue or self.queue)["queue"]["entries"]
        return [entry["task"] for entry in found]

    def refused(self, code, endpoint, body=None, **fields):
        """The call is refused as 400/code; the text."""
        with pytest.raises(ApiError) as caught:
            self(endpoint, body, **fields)
        assert (caught.value.code, caught.value.subcode) == (400, code)
        return caught.value.msg
