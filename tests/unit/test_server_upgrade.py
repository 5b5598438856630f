"""A store of an older agentpipe is brought up to date when it is opened, with all that is in it."""

import sqlite3
import time

from servertools import Server

from agentpipe.server import schema


def test_a_store_of_version_1_keeps_its_tasks_and_gets_models_and_keys(tmp_path):
    path = tmp_path / "agent.db"
    old = Server(path)
    task = old.enqueued()
    model = old("models.create", name="base", uri="", ready=False)["id"]
    old("tasks.edit", task=task, force=True, models={"input": [{"name": "base", "model": model}]})
    old("events.add_batch", [{"type": "training_debug_image", "task": task, "metric": "m", "iter": number, "url": url}
                             for number, url in enumerate(["http://f/a", "http://f/b", "http://f/a", ""])])
    old.store.transaction(lambda db: db.execute("DROP TABLE inputs"))
    old.store.close()
    db = sqlite3.connect(path)
    for index in ("shapes_iter", "shapes_shown", "shapes_url", "logs_arrival"):
        db.execute(f"DROP INDEX {index}")
    for column in ("url", "hidden"):
        db.execute(f"ALTER TABLE shapes DROP COLUMN {column}")
    for table in ("models", "credentials", "revoked", "reports", "lengths", "preferences", "doomed", "containers"):
        db.execute(f"DROP TABLE {table}")
    db.execute("PRAGMA user_version=1")
    db.commit()
    db.close()
    new = Server(path)
    assert new.entries() == [task]
    assert new.store.connection().execute("SELECT model, task FROM inputs").fetchall() == [(model, task)]
    shown = new("events.debug_images", metrics=[{"task": task}], iters=9)["metrics"][0]["iterations"]
    assert [each["iter"] for each in shown] == [2, 1]
    assert new("models.create", name="net", uri="")["created"] is True
    assert new("auth.create_credentials")["credentials"]["secret_key"]
    assert new.store.connection().execute("PRAGMA user_version").fetchone()[0] == schema.VERSION


def test_an_upgrade_that_takes_long_says_so_once(tmp_path, monkeypatch, capfd):
    path = tmp_path / "agent.db"
    Server(path).store.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=5")
    db.close()
    said = []

    def slow(db, found):
        until = time.monotonic() + 20
        while not any(said) and time.monotonic() < until:
            said.append(capfd.readouterr().err)
            time.sleep(0.01)
        db.execute(f"PRAGMA user_version={schema.VERSION}")

    monkeypatch.setattr(schema, "upgrade", slow)
    Server(path)
    assert "".join(said) == f"upgrading the store {path}: one that holds much takes a while; others wait\n"
