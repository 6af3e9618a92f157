//! The tools, one file a family. A tool is its arguments, whose doc comments are what clients read, and a function.

mod assets;
mod game;
mod generate;
mod jobs;
mod models;
mod pixelize;

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use dgx_pixels_core::Error;
use futures::future::BoxFuture;
use rmcp::model::{
    CallToolResponse, CallToolResult, JsonObject, ProgressNotificationParam, ProgressToken, Tool,
    ToolAnnotations,
};
use rmcp::task_manager::{TaskContext, TaskManager};
use rmcp::{Peer, RoleServer};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

pub(crate) use self::generate::Wanted;
use crate::answer::Fault;
use crate::arguments;
use crate::studio::Studio;

/// One call of a tool.
pub(crate) struct Call {
    pub(crate) studio: Studio,
    /// Set when the client gives the call up, or goes.
    pub(crate) cancelled: CancellationToken,
    pub(crate) listener: Listener,
    /// Where long work goes on, for a client that declares the Tasks extension.
    pub(crate) tasks: Option<TaskManager>,
}

impl Call {
    /// Returns when nobody waits any more: the client gave up, or the server stops.
    pub(crate) async fn given_up(&self) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = self.studio.stopping().cancelled() => {}
        }
    }

    /// What to answer then, though only a server that stops is still heard.
    pub(crate) fn gone(&self) -> Fault {
        match self.studio.stopping().is_cancelled() {
            true => Error::ShutDown.into(),
            false => Fault("the call was given up".into()),
        }
    }
}

/// Who wants to hear how far a call is.
pub(crate) enum Listener {
    Nobody,
    Client(Peer<RoleServer>, ProgressToken),
    /// Who asks for the task.
    Task(TaskContext),
}

impl Listener {
    /// Tells how far it is. A client that does not listen any more is no fault.
    pub(crate) async fn tell(&self, done: f64, of: f64, message: String) {
        match self {
            Listener::Nobody => {}
            Listener::Client(peer, token) => {
                let told = ProgressNotificationParam::new(token.clone(), done);
                if let Err(error) = peer.notify_progress(told.with_total(of).with_message(message)).await {
                    tracing::debug!(%error, "progress was not taken");
                }
            }
            Listener::Task(task) => task.set_status_message(message),
        }
    }
}

type Answer = Result<CallToolResult, Fault>;
type Response = Result<CallToolResponse, Fault>;
type Run = Arc<dyn Fn(Call, JsonObject) -> BoxFuture<'static, Response> + Send + Sync>;

/// A tool and what it does.
pub(crate) struct Kind {
    pub(crate) tool: Tool,
    run: Run,
}

impl Kind {
    /// A tool with the arguments `A`; what is said of that type is said of the tool.
    fn new<A, R, F>(
        name: &'static str,
        title: &'static str,
        hints: ToolAnnotations,
        call: impl Fn(Call, A) -> F + Clone + Send + Sync + 'static,
    ) -> Kind
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        R: Into<CallToolResponse>,
        F: Future<Output = Result<R, Fault>> + Send + 'static,
    {
        let schema = arguments::schema::<A>();
        let parsed = schema.clone();
        let run: Run = Arc::new(move |context, arguments| {
            let arguments = arguments::parse(&parsed, Some(arguments));
            let call = call.clone();
            Box::pin(async move {
                let arguments = arguments.map_err(|fault| wrong(name, &fault))?;
                call(context, arguments).await.map(Into::into)
            })
        });
        Kind::raw(name, title, hints, (*schema).clone(), run)
    }

    fn raw(
        name: &'static str,
        title: &'static str,
        hints: ToolAnnotations,
        mut schema: JsonObject,
        run: Run,
    ) -> Kind {
        let description = schema.remove("description").and_then(|text| text.as_str().map(str::to_owned));
        let tool = Tool::new(name, description.unwrap_or_default(), Arc::new(schema));
        Kind { tool: tool.with_title(title).with_annotations(hints), run }
    }

    fn with_output<T: JsonSchema>(mut self) -> Kind {
        self.tool = self.tool.with_raw_output_schema(arguments::schema::<T>());
        self
    }
}

/// What is wrong with arguments, and what to do.
fn wrong(tool: &str, fault: &str) -> Fault {
    Fault(format!("{fault}. Mend it and call `{tool}` again."))
}

/// Nothing changes by asking.
fn reads() -> ToolAnnotations {
    ToolAnnotations::new().read_only(true).open_world(false)
}

/// Something is added, and nothing lost.
fn adds() -> ToolAnnotations {
    ToolAnnotations::new().read_only(false).destructive(false).idempotent(false).open_world(false)
}

/// All tools, by name.
pub(crate) static ALL: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let mut all: Vec<Kind> = [
        generate::tools(),
        jobs::tools(),
        assets::tools(),
        pixelize::tools(),
        game::tools(),
        models::tools(),
    ]
    .into_iter()
    .flatten()
    .collect();
    all.sort_by(|one, other| one.tool.name.cmp(&other.tool.name));
    all
});

/// Calls the tool of this name; `None` if there is none.
pub(crate) async fn call(name: &str, call: Call, arguments: Option<JsonObject>) -> Option<CallToolResponse> {
    let kind = ALL.iter().find(|kind| kind.tool.name == name)?;
    let started = Instant::now();
    let studio = call.studio.clone();
    let answer = (kind.run)(call, arguments.unwrap_or_default()).await;
    studio.metrics().called(name, answer.is_ok(), started.elapsed());
    if let Err(Fault(text)) = &answer {
        tracing::info!(tool = name, fault = text, "answered with a fault");
    }
    Some(answer.unwrap_or_else(|fault| CallToolResult::from(fault).into()))
}
