//! Tools of the tasks extension: they answer with a task that goes on by itself.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock,
    CreateTaskResult,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskContext, TaskExit, TaskOptions};
use rmcp::{ErrorData, RoleServer};
use serde_json::json;

use crate::input::{Answers, elicitation};
use crate::{Fixtures, fixture};

enum Work {
    Compute(Duration),
    Fail,
    Break,
    Say(String),
    /// One question a key, all at once.
    Ask(&'static [&'static str]),
}

/// The answer of a tool that runs as a task; `None` if it is none.
pub(crate) async fn call(
    fixtures: &Fixtures,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Option<CallToolResponse>, ErrorData> {
    let has_tasks = context.client_capabilities().is_some_and(|client| client.supports_tasks());
    let seconds = request.arguments.as_ref().and_then(|arguments| arguments.get("seconds")?.as_u64());
    let duration = Duration::from_secs(seconds.unwrap_or_default());
    let work = match request.name.as_ref() {
        "slow_compute" if !has_tasks => {
            tokio::time::sleep(duration).await;
            return Ok(Some(text("computed").into()));
        }
        "slow_compute" => Work::Compute(duration),
        "failing_job" => Work::Fail,
        "protocol_error_job" => Work::Break,
        "confirm_delete" => Work::Ask(&["confirm"]),
        "multi_input" => Work::Ask(&["first", "second"]),
        "test_tool_with_task" => {
            let asked = json!({ "user_name": elicitation("What is your name?", "name", "string") });
            let answers = Answers::new(request.input_responses.clone(), request.request_state.clone());
            if let Some(questions) = fixtures.rounds.next(&[asked], false, &answers)? {
                return Ok(Some(questions.into()));
            }
            Work::Say(format!("Hello, {}!", answers.of("user_name")["content"]["name"]))
        }
        _ => return Ok(None),
    };
    if !has_tasks {
        let required = ClientCapabilities::builder().enable_tasks().build();
        return Err(ErrorData::missing_required_client_capability(required));
    }
    let options = TaskOptions::new().with_poll_interval_ms(100);
    let task = fixtures.tasks.spawn(options, |context| Box::pin(work.run(context)));
    Ok(Some(CallToolResponse::Task(CreateTaskResult::new(task))))
}

impl Work {
    async fn run(self, context: TaskContext) -> Result<CallToolResult, TaskExit> {
        match self {
            Work::Compute(duration) => tokio::select! {
                () = tokio::time::sleep(duration) => Ok(text("computed")),
                () = context.cancelled() => Err(TaskExit::Cancelled),
            },
            Work::Fail => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(CallToolResult::error(vec![ContentBlock::text("the job failed, as it always does")]))
            }
            Work::Break => Err(ErrorData::internal_error("the job broke, as it always does", None).into()),
            Work::Say(what) => Ok(text(what)),
            Work::Ask(keys) => {
                let question = || fixture(elicitation("Please confirm", "confirm", "boolean"));
                let asked = keys.iter().map(|key| context.request_input(*key, question()));
                let answers = futures::future::try_join_all(asked).await?;
                Ok(text(json!(answers).to_string()))
            }
        }
    }
}

fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}
