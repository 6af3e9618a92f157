//! The tools, one file a family. A tool is its arguments, whose doc comments are what clients read,
//! and a function.

mod assets;
mod game;
mod generate;
mod groups;
mod jobs;
mod models;
mod pixelize;

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use dgx_pixels_core::{Error, ErrorKind, ValueError, one_line};
use futures::future::BoxFuture;
use rmcp::model::{
    CallToolResponse, CallToolResult, JsonObject, ProgressNotificationParam, ProgressToken, Tool,
    ToolAnnotations,
};
use rmcp::task_manager::{TaskContext, TaskManager};
use rmcp::{Peer, RoleServer};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

pub use self::groups::{Group, ToolSet};
use crate::answer::Fault;
use crate::pixel_work::{Length, Stop};
use crate::studio::Studio;
use dgx_pixels_core::fields::{FieldError, json};

/// One call of a tool.
pub(crate) struct Call {
    pub(crate) studio: Studio,
    /// The tools that the client may call.
    pub(crate) tools: ToolSet,
    /// The client, for a fair share of what is drawn.
    pub(crate) client: String,
    /// Set when the client gives the call up, or goes, or the server stops.
    pub(crate) stop: Stop,
    pub(crate) listener: Listener,
    /// The manager of long work, for a client that declares the Tasks extension.
    pub(crate) tasks: Option<TaskManager>,
}

/// The receiver of a call's progress.
pub(crate) enum Listener {
    Nobody,
    Client(Peer<RoleServer>, ProgressToken),
    /// The client that asks for the task.
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
    pub(crate) group: Group,
    /// Arguments that do what `deploy_to_bevy` does.
    pub(crate) game_arguments: &'static [&'static str],
    run: Run,
}

impl Kind {
    /// A tool with the arguments `A`; what is said of that type is said of the tool.
    fn new<A, R, F>(
        group: Group,
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
        let schema = json::schema::<A>();
        let parsed = schema.clone();
        let run: Run = Arc::new(move |context, arguments| {
            let arguments = json::parse(&parsed, Some(arguments));
            let call = call.clone();
            Box::pin(async move {
                let arguments = arguments.map_err(|error| wrong(name, error))?;
                call(context, arguments).await.map(Into::into)
            })
        });
        Kind::raw(group, name, title, hints, (*schema).clone(), run)
    }

    fn raw(
        group: Group,
        name: &'static str,
        title: &'static str,
        hints: ToolAnnotations,
        mut schema: JsonObject,
        run: Run,
    ) -> Kind {
        let description = schema.remove("description").and_then(|text| text.as_str().map(str::to_owned));
        json::close(&mut schema);
        let tool = Tool::new(name, description.unwrap_or_default(), Arc::new(schema));
        Kind { tool: tool.with_title(title).with_annotations(hints), group, game_arguments: &[], run }
    }

    fn with_game_arguments(mut self, names: &'static [&'static str]) -> Kind {
        self.game_arguments = names;
        self
    }

    fn with_output<T: JsonSchema>(mut self) -> Kind {
        self.tool = self.tool.with_raw_output_schema(json::schema::<T>());
        self
    }
}

/// A fault of a call's arguments.
struct Wrong {
    kind: ErrorKind,
    /// The argument at fault, if it is one.
    field: Option<String>,
    text: String,
}

impl Wrong {
    /// A fault as the rest of the sentence that begins with the argument's name.
    fn of(field: impl Into<String>, fault: impl Display) -> Wrong {
        let field = field.into();
        Wrong { text: format!("`{field}` {fault}"), field: Some(field), ..Wrong::from("") }
    }
}

impl From<&str> for Wrong {
    fn from(text: &str) -> Wrong {
        Wrong { kind: ErrorKind::InvalidRequest, field: None, text: text.to_owned() }
    }
}

impl From<&String> for Wrong {
    fn from(text: &String) -> Wrong {
        text.as_str().into()
    }
}

impl From<&Error> for Wrong {
    fn from(error: &Error) -> Wrong {
        Wrong { kind: error.kind(), field: error.field().map(str::to_owned), text: one_line(error) }
    }
}

impl From<FieldError> for Wrong {
    fn from(error: FieldError) -> Wrong {
        Wrong { field: Some(error.field.clone()), ..Wrong::from(&error.to_string()) }
    }
}

impl From<ValueError> for Wrong {
    fn from(error: ValueError) -> Wrong {
        Wrong::from(&Error::from(error))
    }
}

/// The answer for arguments that are wrong: the fault, and what to do.
fn wrong(tool: &str, fault: impl Into<Wrong>) -> Fault {
    let Wrong { kind, field, text } = fault.into();
    let text = format!("{text}. Mend it and call `{tool}` again.");
    Fault { field, ..Fault::new(kind, text) }
}

/// Runs work that reads or writes files beside the calls that only answer.
async fn blocking<T: Send + 'static>(
    studio: &Studio,
    stop: &Stop,
    length: Length,
    work: impl FnOnce(&Studio, &Stop) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (its_studio, its_stop) = (studio.clone(), stop.clone());
    studio.pixel_work().run(length, stop, move || work(&its_studio, &its_stop)).await
}

/// Nothing changes by asking.
fn reads() -> ToolAnnotations {
    ToolAnnotations::new().read_only(true).destructive(false).idempotent(true).open_world(false)
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
    let kind = call.tools.find(name)?;
    let started = Instant::now();
    let studio = call.studio.clone();
    // A call that is dropped, since its connection was, is given up too.
    let _given_up = call.stop.call.clone().drop_guard();
    let arguments = arguments.unwrap_or_default();
    let answer = match json::only_known(&call.tools.describe(kind).input_schema, &arguments) {
        Ok(()) => (kind.run)(call, arguments).instrument(tracing::info_span!("tool", otel.name = name)).await,
        Err(error) => Err(wrong(name, error)),
    };
    let kind = answer.as_ref().err().map(|fault| fault.kind);
    studio.metrics().called(name, kind, started.elapsed());
    if let Err(fault) = &answer {
        tracing::info!(tool = name, kind = fault.kind.as_str(), fault = fault.text, "answered with a fault");
    }
    Some(answer.unwrap_or_else(|fault| CallToolResult::from(fault).into()))
}
