"""Pipelines and the optimiser: tasks that make tasks."""


def test_a_pipeline_of_functions(run, server):
    done = run("""
from clearml import PipelineController
def first(n):
    return int(n) + 1
def second(x):
    print("got", x)
    return [int(x) * 2]
pipe = PipelineController("functions", "pipes", "1.0.0", add_pipeline_tags=False, pool_frequency=0.01)
pipe.add_parameter("n", 4)
pipe.add_function_step("first", first, function_kwargs=dict(n="${pipeline.n}"), function_return=["x"],
                       cache_executed_step=True)
pipe.add_function_step("second", second, function_kwargs=dict(x="${first.x}"), function_return=["y"])
pipe.start_locally(run_pipeline_steps_locally=True)
nodes = pipe.get_processed_nodes()
say(id=pipe.id, steps=sorted(nodes))
step = nodes["second"]
from clearml import Task
say(result=Task.get_task(task_id=step.executed).artifacts["y"].get())
say(again=PipelineController.get(pipeline_project="pipes", pipeline_name="functions").id)
""")
    assert done.again == done.id
    assert sorted(done.steps) == ["first", "second"]
    assert done.result == [10]
    task = server.task(done.id)
    assert task["type"] == "controller" and task["status"] == "completed"
    assert "pipeline" in task["system_tags"]


def test_a_pipeline_by_decorators(run, server):
    done = run("""
from clearml.automation.controller import PipelineDecorator
@PipelineDecorator.component(return_values=["x"], cache=False)
def one(n):
    return n + 1
@PipelineDecorator.component(return_values=["y"])
def two(x):
    return x * 3
@PipelineDecorator.pipeline(name="decorated", project="pipes", version="0.1")
def whole(n):
    y = two(one(n))
    print("the end is", y)
    return y
if __name__ == "__main__":
    PipelineDecorator.run_locally()
    say(y=whole(2))
""")
    assert int(done.y) == 9
    assert "the end is 9" in done.output


def test_an_optimiser_with_four_trials(run, server):
    done = run("""
from clearml import Task
base = Task.init("demo/hpo", "base", auto_connect_frameworks=False)
params = base.connect({"x": 1.0})
base.get_logger().report_scalar("score", "value", -(float(params["x"]) - 3) ** 2, 0)
say(base=base.id)
base.close()
""", name="base.py")
    done = run(f"""
from clearml import Task
from clearml.automation import DiscreteParameterRange, GridSearch, HyperParameterOptimizer
task = Task.init("demo/hpo", "optimiser", task_type=Task.TaskTypes.optimizer, auto_connect_frameworks=False)
optimizer = HyperParameterOptimizer("{done.base}", [DiscreteParameterRange("General/x", [1.0, 2.0, 3.0, 5.0])],
    objective_metric_title="score", objective_metric_series="value", objective_metric_sign="max",
    optimizer_class=GridSearch, max_number_of_concurrent_tasks=2, total_max_jobs=4, pool_period_min=0.02,
    execution_queue="default", spawn_project="demo/hpo/trials")
optimizer.set_report_period(0.05)
optimizer.start_locally()
optimizer.wait()
top = optimizer.get_top_experiments(top_k=4)
say(best=top[0].get_parameters()["General/x"], trials=[t.id for t in top], status=[t.get_status() for t in top])
optimizer.stop()
task.close()
""", name="optimise.py")
    assert done.best == "3.0"
    assert len(done.trials) == 4
    assert set(done.status) == {"completed"}


def test_launch_multi_node_queues_the_other_ranks(run, server):
    queue = server("queues.create", name="nodes")["id"]
    script = """
from clearml import Task
task = Task.init("demo", "nodes", auto_connect_frameworks=False)
config = task.launch_multi_node(3, queue="nodes", wait=False)
say(id=task.id, rank=config["node_rank"], total=config["total_num_nodes"])
task.close()
"""
    try_out = """
from clearml import Task
say(id=Task.init("demo", "nodes", auto_connect_frameworks=False).id)
"""
    task = run(try_out).id
    server("tasks.enqueue", task=task, queue=queue, force=True)
    server("queues.get_next_task", queue=queue)
    # as an agent starts it
    done = run(script, CLEARML_TASK_ID=task, CLEARML_LOG_TASK_TO_BACKEND="0")
    assert (done.id, done.rank, done.total) == (task, 0, 3)
    entries = [entry["task"] for entry in server("queues.get_by_id", queue=queue)["queue"]["entries"]]
    assert len(entries) == 2 and task not in entries
    assert {server.task(entry)["parent"] for entry in entries} == {task}
