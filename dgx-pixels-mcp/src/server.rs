//! One client's requests: tools, resources, prompts, completion.

use std::time::Duration;

use dgx_pixels_core::library::Changes;
use dgx_pixels_core::{ErrorKind, one_line};
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams,
    CompleteResult, CompletionInfo, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult,
    Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, SubscriptionFilter, Tool, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::pixel_work::{Length, Stop};
use crate::session::Connection;
use crate::studio::Studio;
use crate::tools::{self, Call, Listener, ToolSet};
use crate::{prompts, resources};
use dgx_pixels_core::fields::json::{cut, nearest, quoted};

/// The time between two looks for the work of other servers. A look takes one question to the disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Lists that only another version of the program changes.
const CONSTANT_MS: u64 = 3_600_000;

/// Answers a client. Its copies share all they know, but for the name of the connection that each
/// serves.
#[derive(Clone)]
pub struct Server {
    studio: Studio,
    tools: ToolSet,
    tasks: TaskManager,
    connection: Connection,
}

impl Server {
    /// A server in front of `studio`, with all tools.
    pub fn new(studio: Studio) -> Server {
        let (tools, tasks, connection) = (ToolSet::default(), TaskManager::new(), Connection::default());
        Server { studio, tools, tasks, connection }
    }

    /// The same with these tools only: all others are neither listed nor taken, nor are prompts and
    /// resources that need them.
    pub fn with_tools(self, tools: ToolSet) -> Server {
        Server { tools, ..self }
    }

    /// All tools, as clients are told of them.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_mcp::Server;
    /// assert!(Server::tools().iter().any(|tool| tool.name == "generate_sprite"));
    /// ```
    pub fn tools() -> Vec<Tool> {
        tools::ALL.iter().map(|kind| kind.tool.clone()).collect()
    }

    /// Prompts have sprites drawn.
    fn has_prompts(&self) -> bool {
        self.tools.has("generate_sprite") && self.tools.has("generate_batch")
    }

    fn may_read(&self) -> resources::Readable {
        resources::Readable { assets: self.tools.has("get_asset"), styles: self.tools.has("list_models") }
    }

    fn capabilities(&self) -> ServerCapabilities {
        let mut capabilities =
            ServerCapabilities::builder().enable_tools().enable_completions().enable_tasks().build();
        let others = ServerCapabilities::builder()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_prompts()
            .build();
        if self.may_read().any() {
            capabilities.resources = others.resources;
        }
        if self.has_prompts() {
            capabilities.prompts = others.prompts;
        }
        capabilities
    }

    /// The facts about the available tools that a model should know before its first call.
    fn instructions(&self) -> String {
        let mut text = String::from("Makes game-ready pixel art on the user's own machine.");
        for (tool, sentence) in [
            (
                "generate_sprite",
                "`generate_sprite` draws a sprite from a prompt and saves a PNG; look at the preview, and call again with another \
                 seed, fewer `max_colors`, or a `palette` if it is not right. Say one thing and its colors in a prompt: \"a red \
                 dragon\". Several things in one look: `generate_batch`.",
            ),
            ("list_models", "`list_models` names models, styles and palettes."),
            ("get_job", "Images that take long go on as jobs: `get_job` waits for them."),
            ("pixelize_image", "`pixelize_image` makes a sprite of an image that is there."),
            (
                "list_assets",
                "`list_assets` finds what was made; each asset is a file at `path`, and the resource \
                 `sprite://ASSET_ID/sprite.png`.",
            ),
            ("deploy_to_bevy", "`deploy_to_bevy` puts sprites into a Bevy game."),
        ] {
            if self.tools.has(tool) {
                text += " ";
                text += sentence;
            }
        }
        text
    }

    fn stop(&self, call: &CancellationToken) -> Stop {
        Stop { call: call.child_token(), server: self.studio.stopping().clone() }
    }

    fn no_such_tool(&self, name: &str) -> ErrorData {
        let names: Vec<_> = self.tools.kinds().map(|kind| kind.tool.name.as_ref()).collect();
        let expected = match (nearest(name, &names).as_slice(), names.as_slice()) {
            (_, []) => "this server has no tools; start it with other `--tools`".to_owned(),
            ([], all) => format!("there are {}", quoted(all, ", ")),
            (near, all) => format!("the nearest are {}; there are {}", quoted(near, ", "), quoted(all, ", ")),
        };
        let exists = tools::ALL.iter().any(|kind| kind.tool.name == name);
        let off =
            if exists { ", as the server was started without it (`--tools`, `--read-only`)" } else { "" };
        ErrorData::invalid_params(format!("there is no tool `{}`{off}; {expected}", cut(name)), None)
    }

    /// Returns when the assets have changed, by this server or by another one.
    async fn next(&self, changes: &mut Changes) {
        loop {
            tokio::select! {
                () = changes.next() => return,
                () = sleep(LOOK_EVERY) => {
                    let studio = self.studio.clone();
                    let looked = spawn_blocking(move || studio.library().refresh()).await;
                    if let Ok(Err(error)) = looked {
                        tracing::warn!(error = one_line(&error), "changes of the library are not seen");
                    }
                }
            }
        }
    }
}

/// Whoever asks for a page beyond the only one has made its cursor up.
fn only_page(request: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor) {
        Some(cursor) => {
            Err(ErrorData::invalid_params(format!("`cursor` is `{}`; there is one page", cut(&cursor)), None))
        }
        None => Ok(()),
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut about = Implementation::new("dgx-pixels", env!("CARGO_PKG_VERSION"));
        about.title = Some("DGX-Pixels".into());
        about.description = Some(env!("CARGO_PKG_DESCRIPTION").into());
        ServerConfig::new(self.capabilities()).with_server_info(about).with_instructions(self.instructions())
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        only_page(request)?;
        let tools = self.tools.kinds().map(|kind| self.tools.describe(kind)).collect();
        let all = ListToolsResult::with_all_items(tools);
        Ok(all.with_ttl_ms(CONSTANT_MS).with_cache_scope(CacheScope::Public))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.find(name).map(|kind| self.tools.describe(kind))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let has_tasks = context.client_capabilities().is_some_and(|client| client.supports_tasks());
        let call = Call {
            studio: self.studio.clone(),
            tools: self.tools.clone(),
            client: self.connection.client(&context),
            stop: self.stop(&context.ct),
            listener: match context.meta.get_progress_token() {
                Some(token) => Listener::Client(context.peer.clone(), token),
                None => Listener::Nobody,
            },
            tasks: has_tasks.then(|| self.tasks.clone()),
        };
        let answer = tools::call(&request.name, call, request.arguments).await;
        answer.ok_or_else(|| self.no_such_tool(&request.name))
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        resources::list(&self.studio, &self.stop(&context.ct), self.may_read(), cursor).await
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        only_page(request)?;
        let all = ListResourceTemplatesResult::with_all_items(resources::templates(self.may_read()));
        Ok(all.with_ttl_ms(CONSTANT_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let stop = self.stop(&context.ct);
        let _given_up = stop.call.clone().drop_guard();
        resources::read(&self.studio, &stop, self.may_read(), request.uri).await.map(Into::into)
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        only_page(request)?;
        let all =
            ListPromptsResult::with_all_items(if self.has_prompts() { prompts::list() } else { vec![] });
        Ok(all.with_ttl_ms(CONSTANT_MS).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if !self.has_prompts() {
            let name = cut(&request.name);
            let reason = "the server was started without the tools that draw (`--tools`, `--read-only`)";
            return Err(ErrorData::invalid_params(format!("there is no prompt `{name}`: {reason}"), None));
        }
        prompts::get(&request.name, request.arguments.unwrap_or_default()).map(Into::into)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let (studio, may_read, argument) = (self.studio.clone(), self.may_read(), request.argument);
        let complete = move || match argument.name.as_str() {
            "asset_id" if !may_read.assets => Ok(vec![]),
            name => Ok(prompts::complete(&studio, name, &argument.value)),
        };
        let work = self.studio.pixel_work();
        let found = work.run(Length::Short, &self.stop(&context.ct), complete).await;
        let mut values = found.map_err(|fault| match fault.kind {
            ErrorKind::ShutDown | ErrorKind::Cancelled => ErrorData::invalid_request(fault.text, None),
            _ => ErrorData::internal_error(fault.text, None),
        })?;
        let total = values.len() as u32;
        values.truncate(CompletionInfo::MAX_VALUES);
        let has_more = total as usize > values.len();
        let info = CompletionInfo::with_pagination(values, Some(total), has_more);
        info.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = SubscriptionFilter::default();
        let may_read = self.may_read().any();
        accepted.resources_list_changed =
            requested.resources_list_changed.filter(|wanted| *wanted && may_read);
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.studio.library().changes();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                () = self.next(&mut changes) => {
                    if context.sink().notify_resource_list_changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        // Clients of older revisions do not subscribe: they are told for as long as they are there.
        let (server, mut changes, peer) = (self.clone(), self.studio.library().changes(), context.peer);
        tokio::spawn(async move {
            while !peer.is_transport_closed() {
                server.next(&mut changes).await;
                if peer.notify_resource_list_changed().await.is_err() {
                    return;
                }
            }
        });
    }
}
