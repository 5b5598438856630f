"""Which endpoints there are: all that ClearML's clients are known to call, and what is refused as it refuses it."""

import re
from pathlib import Path

import pytest
from servertools import Server

from agentpipe.errors import ApiError
from agentpipe.server import endpoints

# what the clearml package, clearml-agent and pages of a ClearML server call, by who needs it
AN_AGENT_AND_A_SCRIPT = """
auth.login auth.validate_token queues.get_all queues.get_by_id queues.get_default queues.create queues.get_next_task
queues.remove_task workers.register workers.unregister workers.status_report workers.get_all tasks.create
tasks.get_by_id tasks.get_all tasks.edit tasks.started tasks.stopped tasks.completed tasks.failed tasks.ping tasks.stop
tasks.enqueue tasks.dequeue tasks.set_requirements tasks.clone tasks.reset tasks.get_hyper_params
tasks.edit_hyper_params tasks.add_or_update_artifacts tasks.add_or_update_model projects.get_all projects.get_by_id
projects.create projects.update events.add_batch
"""
THE_REST_OF_THE_PACKAGE = """
tasks.delete tasks.publish tasks.delete_hyper_params tasks.delete_artifacts tasks.update models.create models.get_by_id
models.get_all models.edit models.set_ready models.delete models.archive_many models.unarchive_many
models.add_or_update_metadata events.get_task_log events.scalar_metrics_iter_histogram
events.get_task_single_value_metrics events.get_task_plots events.debug_images events.get_task_events events.add
queues.get_num_entries users.get_current_user
"""
A_PAGE = """
login.supported_modes auth.logout auth.get_credentials auth.create_credentials auth.revoke_credentials
users.get_preferences users.set_preferences users.get_all_ex server.info tasks.get_all_ex tasks.get_by_id_ex
tasks.get_types tasks.enqueue_many tasks.dequeue_many tasks.reset_many tasks.delete_many tasks.stop_many
tasks.publish_many tasks.archive_many tasks.unarchive_many tasks.move tasks.update_tags tasks.edit_configuration
tasks.delete_configuration tasks.get_configurations tasks.get_configuration_names tasks.delete_models tasks.edit_runtime
projects.get_all_ex projects.delete projects.validate_delete projects.move projects.get_task_tags
projects.get_task_parents projects.get_hyper_parameters projects.get_unique_metric_variants models.get_all_ex
models.get_frameworks queues.get_all_ex queues.update queues.delete queues.clear_queue queues.move_task_forward
queues.move_task_backward queues.move_task_to_front queues.move_task_to_back queues.get_queue_metrics
workers.get_activity_report workers.get_stats workers.get_metric_keys events.get_task_metrics
events.multi_task_scalar_metrics_iter_histogram events.get_multi_task_plots events.get_task_latest_scalar_values
events.plots events.get_debug_image_sample events.download_task_log events.scalar_metrics_iter_raw
organization.get_tags organization.get_entities_count organization.prepare_download_for_get_all
organization.download_for_get_all pipelines.start_pipeline pipelines.delete_runs
"""
# clients ask for these once, and do without them when they are refused
NOT_ON_A_FREE_SERVER = """
workers.get_runtime_properties workers.set_runtime_properties workers.cluster_report users.get_vaults datasets.get_all
frames.get_next dataviews.get_all auth.get_task_token
"""
PAGE = Path(__file__).parents[2] / "man" / "agent-server.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return Server(tmp_path_factory.mktemp("endpoints") / "agent.db")


@pytest.mark.parametrize("names", [AN_AGENT_AND_A_SCRIPT, THE_REST_OF_THE_PACKAGE, A_PAGE])
def test_none_that_a_client_calls_is_missing(names):
    assert sorted(set(names.split()) - set(endpoints.known())) == []


@pytest.mark.parametrize("name", [*NOT_ON_A_FREE_SERVER.split(), "tasks.nope", "nope.get_all", "tasks._all",
                                  "os.system"])
def test_what_is_not_there_is_refused_as_clearml_does(server, name):
    with pytest.raises(ApiError) as caught:
        server(name)
    assert (caught.value.code, caught.value.subcode) == (404, 0)
    assert caught.value.msg == f"Unable to find endpoint for name {name} and version 2.34"


@pytest.mark.parametrize("name", endpoints.known())
def test_every_endpoint_says_what_an_empty_body_lacks_or_answers_with_an_object(server, name):
    try:
        answer = server(name, {})
    except ApiError as refused:
        assert 400 <= refused.code < 404, refused.msg
        assert refused.msg
    else:
        assert isinstance(answer, dict)


def test_the_page_lists_them_all():
    _, _, listed = PAGE.read_text().partition(".Sh ENDPOINTS")
    listed = listed.partition("\n.Sh")[0]
    found = {f"{service}.{name}" for service, names in re.findall(r"\.It Sy (\w+)\n((?:(?!\.).+\n)+)", listed)
             for name in re.findall(r"\w+", names)}
    assert found == set(endpoints.known())
