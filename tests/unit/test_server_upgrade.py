"""A store of an older agentpipe is brought up to date when it is opened, with all that is in it."""

import sqlite3

from servertools import Server

from agentpipe.server import schema


def test_a_store_of_version_1_keeps_its_tasks_and_gets_models_and_keys(tmp_path):
    path = tmp_path / "agent.db"
    old = Server(path)
    task = old.enqueued()
    model = old("models.create", name="base", uri="", ready=False)["id"]
    old("tasks.edit", task=task, force=True, models={"input": [{"name": "base", "model": model}]})
    old.store.transaction(lambda db: db.execute("DROP TABLE inputs"))
    old.store.close()
    db = sqlite3.connect(path)
    for table in ("models", "credentials", "revoked", "reports", "lengths", "preferences", "doomed"):
        db.execute(f"DROP TABLE {table}")
    db.execute("PRAGMA user_version=1")
    db.commit()
    db.close()
    new = Server(path)
    assert new.entries() == [task]
    assert new.store.connection().execute("SELECT model, task FROM inputs").fetchall() == [(model, task)]
    assert new("models.create", name="net", uri="")["created"] is True
    assert new("auth.create_credentials")["credentials"]["secret_key"]
    assert new.store.connection().execute("PRAGMA user_version").fetchone()[0] == schema.VERSION
